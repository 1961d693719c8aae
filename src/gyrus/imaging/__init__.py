"""Images and volumes: decoding, formats, DICOM, masks, resampling."""
