"""Ultrasound studies in DICOM: images in; a structured report (SR) and a segmentation (SEG) out."""
