ALTER TABLE events DROP COLUMN waveform;
