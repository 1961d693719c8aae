"""Where images and labels come from: folders, tables, parquet, BIDS, DICOM, Hugging Face."""
