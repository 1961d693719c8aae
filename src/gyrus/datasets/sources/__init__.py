"""Sources of images and labels: folders, tables, parquet, BIDS, DICOM, Hugging Face."""
