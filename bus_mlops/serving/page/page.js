// The page of `bus-mlops serve`: one image in; probability, threshold, mask and, if wanted, explanation out.
"use strict";

const find = (id) => document.getElementById(id);
const shown = { file: null, picture: null, mask: null, heat: null };
let latest = 0;

async function about() {
  const answer = await fetch("version");
  const model = await answer.json();
  find("notice").textContent = model.notice;
  find("phantom").hidden = !model.phantom;
  find("masks").hidden = !model.mask;
  find("model").textContent =
    `${model.model}, ${model.version ? "version " + model.version : "not registered"}, ${model.digest.slice(0, 12)}`;
  find("standing").textContent = model.standing.sentence;
  // Above in full, and beside every answer in a few words.
  if (model.standing.gate === "refused") {
    find("standing").className = "refused";
    find("refused").hidden = false;
  }
  return model;
}
const description = about();

function say(text, isError = false) {
  find("status").textContent = text;
  find("status").className = isError ? "error" : "";
}

async function base64(file) {
  const bytes = new Uint8Array(await file.arrayBuffer());
  let text = "";
  for (let i = 0; i < bytes.length; i += 32768) text += String.fromCharCode(...bytes.subarray(i, i + 32768));
  return btoa(text);
}

async function ask(file, explanations) {
  const masks = (await description).mask;
  const answer = await fetch("invocations", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ dataframe_records: [{ image: await base64(file) }], params: { masks, explanations } }),
  });
  const body = await answer.json();
  if (!answer.ok) throw new Error(body.error || body.message || `The server answered with status ${answer.status}.`);
  return body.predictions[0];
}

// A picture from base64, or null where there is none.
async function decoded(text) {
  if (!text) return null;
  const bytes = Uint8Array.from(atob(text.replace(/\s/g, "")), (c) => c.charCodeAt(0));
  return createImageBitmap(new Blob([bytes], { type: "image/png" }));
}

async function predict(file) {
  const turn = ++latest;
  shown.file = file;
  find("result").hidden = true;
  say(`Asking about ${file.name} ...`);
  try {
    const row = await ask(file, find("explain").checked);
    if (row.error) throw new Error(row.error);
    // A browser cannot draw every format that the model reads, such as TIFF.
    const picture = await createImageBitmap(file).catch(() => null);
    const [mask, heat] = [await decoded(row.mask), await decoded(row.explanation)];
    if (turn !== latest) return;
    Object.assign(shown, { picture, mask, heat });
    report(row);
    draw();
    find("result").hidden = false;
    say(picture ? "" : "This browser cannot draw the image; its mask is shown alone.");
  } catch (error) {
    if (turn === latest) say(error.message, true);
  }
}

const TRIAGE = {
  low: "low: malignant is ruled out at the nominal rate",
  high: "high: benign is ruled out at the nominal rate",
  uncertain: "uncertain: neither is ruled out",
};

// Words first: whoever sees no colour must see that there is no answer, or none to rely on.
function report(row) {
  const refused = row.status === "refused";
  find("verdict").textContent = { refused: "No answer: refused.", uncertain: "Uncertain:" }[row.status] || "";
  find("reasons").replaceChildren(...row.reasons.map((reason) => {
    const line = document.createElement("li");
    line.textContent = reason;
    return line;
  }));
  for (const id of ["scale", "numbers"]) find(id).hidden = refused;
  find("result").className = row.status;
  if (refused) {
    find("probability").textContent = find("label").textContent = "";
    return;
  }
  find("triage").textContent = TRIAGE[row.triage] || "this model was made before models could tell";
  find("probability").textContent = row.probability.toFixed(3);
  find("label").textContent = row.label;
  find("threshold").textContent = `${row.threshold.toFixed(3)} (malignant from here on)`;
  find("spread").textContent = row.spread.toFixed(3);
  find("value").style.width = `${100 * row.probability}%`;
  find("mark").style.left = `${100 * row.threshold}%`;
}

function draw() {
  const base = shown.picture || shown.mask;
  const canvas = find("picture");
  canvas.hidden = !base;
  if (!base) return;
  [canvas.width, canvas.height] = [base.width, base.height];
  const context = canvas.getContext("2d");
  context.drawImage(base, 0, 0);
  if (shown.heat && find("explain").checked) {
    context.globalAlpha = 0.5;
    context.drawImage(shown.heat, 0, 0, base.width, base.height);
    context.globalAlpha = 1;
  }
  if (shown.picture && shown.mask && find("show-mask").checked) context.drawImage(tinted(shown.mask), 0, 0);
}

// The mask in a colour of its own: its border full, its inside faint.
function tinted(mask) {
  const layer = new OffscreenCanvas(mask.width, mask.height);
  const context = layer.getContext("2d");
  context.drawImage(mask, 0, 0);
  const pixels = context.getImageData(0, 0, mask.width, mask.height);
  const inside = Uint8Array.from({ length: mask.width * mask.height }, (_, i) => (pixels.data[4 * i] > 127 ? 1 : 0));
  const border = Math.max(1, Math.round(Math.max(mask.width, mask.height) / 250));
  const at = (x, y) => x >= 0 && y >= 0 && x < mask.width && y < mask.height && inside[y * mask.width + x];
  for (let y = 0; y < mask.height; y++) {
    for (let x = 0; x < mask.width; x++) {
      const i = y * mask.width + x;
      const edge = !at(x - border, y) || !at(x + border, y) || !at(x, y - border) || !at(x, y + border);
      pixels.data.set([0, 230, 120, inside[i] ? (edge ? 255 : 50) : 0], 4 * i);
    }
  }
  context.putImageData(pixels, 0, 0);
  return layer;
}

const drop = find("drop");
for (const name of ["dragover", "dragenter"]) {
  drop.addEventListener(name, (event) => { event.preventDefault(); drop.classList.add("over"); });
}
drop.addEventListener("dragleave", () => drop.classList.remove("over"));
drop.addEventListener("drop", (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  if (event.dataTransfer.files.length) predict(event.dataTransfer.files[0]);
});
// An image dropped beside the field would otherwise replace the page.
for (const name of ["dragover", "drop"]) window.addEventListener(name, (event) => event.preventDefault());
find("file").addEventListener("change", (event) => { if (event.target.files.length) predict(event.target.files[0]); });
find("show-mask").addEventListener("change", draw);
find("explain").addEventListener("change", () => { if (shown.file && !shown.heat) predict(shown.file); else draw(); });
description.catch(() => say("The server does not answer. Load the page again.", true));
