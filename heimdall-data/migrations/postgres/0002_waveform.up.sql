-- What was transmitted, such as nbfm_voice; NULL where nobody knows.
ALTER TABLE events ADD COLUMN waveform TEXT COLLATE "C" CHECK (waveform <> '');
