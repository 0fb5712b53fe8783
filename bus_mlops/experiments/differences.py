"""What the profiles `paper` and `official-code` do otherwise than the paper and its scripts, and why: facts alone."""

from __future__ import annotations

from typing import NamedTuple

from bus_mlops.evaluation.families import CRITERION


class Difference(NamedTuple):
    """What they do, what is done here, why, and the keys of params.yaml that decide it (none: it is not a choice)."""

    topic: str
    theirs: str
    ours: str
    reason: str
    keys: tuple[str, ...] = ()


PAPER = (
    Difference(
        "Near-duplicates",
        "folds by case",
        "cases joined with near-duplicates stay in one part",
        "two pictures of one scene on both sides of a split make every number too good",
        ("folds.kind",),
    ),
    Difference(
        "Balance of the folds",
        "not said",
        "sources and labels are balanced over test, training and validation parts",
        "folds of one mixture differ less by chance; `image-level` folds are not balanced",
        ("folds.kind",),
    ),
    Difference(
        "Validation",
        "20 % of the training cases",
        "20 % of the training groups",
        "as the folds",
        ("folds.validation",),
    ),
    Difference(
        "Colour",
        "not said; the code reads three channels",
        "one gray channel, three times",
        "B-mode has no colour: coloured pixels are marks of the device, and a third of the memory is enough",
        ("data.color",),
    ),
    Difference(
        "Resizing",
        "not said; the code looks at four pixels however much it shrinks (OpenCV's bilinear)",
        "a triangle as wide as the reduction, which averages over the area",
        "an image made smaller without averaging gets patterns that are not in it",
    ),
    Difference(
        "Whose weights are tested",
        "lowest validation loss; the code of Table 8 keeps the last epoch",
        "the epoch of lowest validation loss, for every network",
        "one rule for all, and the one that the paper states",
        ("training.kept_epoch",),
    ),
    Difference(
        "Table 6: the weight and the focal pair",
        "chosen on validation, not said by which metric",
        f"for each fold by the highest {CRITERION.upper()} on its own validation part, if that beats the paper's "
        "parameters by more than a standard error",
        "of its seven metrics the only one that explains the choices it printed; chosen once on all validation parts, "
        "it would rest on images that are tested on",
        ("strategy_settings.losses.standard_errors",),
    ),
    Difference(
        "Table 8: rows Single",
        "not said how they were trained",
        "as the multitask network of the same backbone, on plain cross-entropy: its scaling, size, epochs, dropout",
        "the two rows then differ in the decoder and its loss alone",
        ("networks.mobilenet_multitask.scaling", "networks.mobilenet_multitask.epochs"),
    ),
    Difference(
        "Table 8: EfficientNetB0",
        "not said; the code divides by 255, and Keras's EfficientNetB0 does so again",
        "the same, which leaves an input almost without contrast; `raw255` mends it",
        "Table 8 is to be compared with what was printed",
        ("networks.efficientnetb0_multitask.scaling",),
    ),
    Difference(
        "Scaling of the classifiers' input",
        "not said; the code feeds 0 to 255",
        "0 to 255; `imagenet` is what the pretrained weights were made with",
        "as the code, where the paper is silent",
        ("networks.mobilenet.scaling", "training.scaling"),
    ),
    Difference(
        "Dropout",
        '"no regularization"',
        "0.3 in the head of 512 and 64; 0.5 in MT-ESTAN's",
        "every released script has it",
        ("training.dropout", "networks.mt_estan.dropout"),
    ),
    Difference(
        "An epoch",
        "not said; in the code of multitask networks 200 or 210 steps, which are 8 or 9 passes",
        "one pass through the training images",
        "what the word means",
        ("training.steps_per_epoch", "networks.mt_estan.epochs"),
    ),
    Difference(
        "Heads' initial weights",
        "not said; `he_normal` in the code of the classifiers",
        "Keras's default, `glorot_uniform`",
        "the profile `official-code` has the code's",
        ("training.head_initializer",),
    ),
    Difference(
        "Rotation",
        '"20 %"',
        "20 degrees",
        "the unit of the code",
        ("training.augmentation.rotation",),
    ),
    Difference(
        "Zoom and shear (tried alone)",
        "no amounts",
        "0.2 and 20 degrees",
        "ours",
        ("strategy_settings.augmentation.singles.zoom", "strategy_settings.augmentation.singles.shear"),
    ),
    Difference(
        "Masks",
        "not said",
        "nearest pixel, several masks of an image joined; augmented by nearest pixel, too",
        "a mask stays 0 or 1",
    ),
    Difference(
        "Equations 9 and 10",
        "as printed, the sign of the one is wrong and the other lacks an exponent",
        "as they are meant, from logits, finite everywhere",
        "printed, the first has no minimum",
    ),
    Difference(
        '"AUC"',
        "computed from thresholded labels, which is balanced accuracy (83 of 84 rows)",
        "both are shown under their own names; only balanced accuracy is set beside the paper's column",
        "a ROC area is another number",
    ),
    Difference(
        "Table 8: skips of four backbones",
        "named for none; in the code DenseNet121's layer names stand in all five files",
        "the same strides of each backbone; DenseNet121's are the code's",
        "the other four files cannot run",
    ),
    Difference(
        "Table 9: EMT-Net, SHA-MTL, Vakanski",
        "re-implemented, not released",
        "reconstructions from abstracts, sizes and, of Vakanski, published code; losses and rates partly ours",
        "nothing else is to be had: rows of these are no strict replications",
        (
            *("networks.emt_net.options", "networks.emt_net.loss", "networks.sha_mtl.options", "networks.sha_mtl.loss"),
            *("networks.vakanski.options", "networks.vakanski.loss", "networks.vakanski.input_size"),
        ),
    ),
)
CODE = (
    Difference(
        "Folds",
        "classifiers: `folds.zip`, by case; multitask networks: at random over images",
        "leakage groups whole, sources and labels balanced",
        "the one has defects, may not be passed on and is imported (`official`), the other leaks (`image-level`)",
        ("folds.kind",),
    ),
    Difference(
        "Validation",
        "15 % of the cases; of multitask networks 20 % of the images, at random",
        "the same fractions, of whole groups, balanced",
        "as the folds",
        ("folds.validation", "networks.mt_estan.validation"),
    ),
    Difference(
        "Folds one after the other",
        "one optimizer for all folds: its step count and a rate that has fallen go on into the next fold",
        "every fold begins anew, with the first rate",
        "folds must not know of each other",
    ),
    Difference(
        "Tables 4 and 5",
        "one file a network, which has weighted cross-entropy of weight 3 (DenseNet121: 4)",
        "that loss in the rows of Tables 4 and 5, too; the paper's have plain cross-entropy",
        "a profile of what the files say",
        ("networks.mobilenet.loss", "networks.densenet121.loss"),
    ),
    Difference(
        "Table 8: rows Single",
        "no file",
        "as the multitask file of the same backbone, on plain cross-entropy",
        "the two rows then differ in the decoder and its loss alone",
        ("networks.mobilenet_multitask.steps_per_epoch", "networks.mobilenet_multitask.kept_epoch"),
    ),
    Difference(
        "Steps of an epoch",
        "a generator that repeats: pass after pass through all images, each in a new order, its last batch smaller",
        "the same, in orders that follow from seed and pass",
        "repeatable, and the same after a crash",
        ("networks.mobilenet_multitask.steps_per_epoch", "networks.mt_estan.steps_per_epoch"),
    ),
    Difference(
        "MT-ESTAN: whose weights",
        "three are tested: last epoch, lowest validation loss, lowest squared error of the class",
        "lowest validation loss, the rule that the paper states",
        "one row",
        ("networks.mt_estan.kept_epoch",),
    ),
    Difference(
        "Channels",
        "blue, green, red, as OpenCV reads them",
        "red, green, blue",
        "the pretrained weights expect them so; gray pixels are the same either way",
        ("data.color",),
    ),
    Difference(
        "Resizing and masks",
        "OpenCV's bilinear filter, also for masks (an argument in the wrong place), cut at 50 of 255",
        "averaging over the area; masks by nearest pixel",
        "no patterns that are not in the image, no masks that grow",
    ),
    Difference(
        "Augmented masks",
        "bilinear, so that edges are between 0 and 1",
        "nearest pixel",
        "a mask stays 0 or 1",
    ),
    Difference(
        "Padding",
        "eight HMSS images come out black, some are not padded",
        "every image is padded to a square",
        "an error of the script",
    ),
    Difference(
        "Weighted cross-entropy",
        "from probabilities cut at 1e-7, so that logits beyond 16.1 have no gradient",
        "from logits",
        "the same value within the cut, finite and with a gradient beyond",
    ),
    Difference(
        "Files that cannot run",
        "wrong arguments in MT-ESTAN and four multitask files, DenseNet121's layer names in all five",
        "what they mean, as far as it can be told",
        "there is nothing to repeat",
    ),
    Difference(
        "SHA-MTL, Vakanski, EMT-Net, ESTAN",
        "not released",
        "as in the profile `paper`",
        "nothing else is to be had",
        ("networks.emt_net.epochs", "networks.emt_net.validation"),
    ),
    Difference(
        "Random numbers",
        "seeds 1, 42 and 666 of other generators",
        "one seed for everything",
        "their draws cannot be repeated without their libraries of then",
        ("seed",),
    ),
)
