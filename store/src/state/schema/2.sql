-- The first message that was given up without being put before the reader: `seen` stays before it.
ALTER TABLE streams ADD COLUMN skipped INTEGER;
