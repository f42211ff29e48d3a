-- What receivers measured that record no samples, or beside them.
CREATE TABLE levels (
    event     TEXT COLLATE "C" NOT NULL REFERENCES events (id),
    receiver  TEXT COLLATE "C" NOT NULL REFERENCES receivers (name),
    -- Received level, in dB relative to any reference of the receiver.
    rss_db    DOUBLE PRECISION CHECK (rss_db <> 'NaN'),
    -- Level above the receiver's noise.
    snr_db    DOUBLE PRECISION CHECK (snr_db <> 'NaN'),
    -- The receiver's noise, on the scale of rss_db.
    noise_db  DOUBLE PRECISION CHECK (noise_db <> 'NaN'),
    -- Time of arrival after the earliest one of the event.
    arrival_s DOUBLE PRECISION CHECK (arrival_s >= 0 AND arrival_s <> 'NaN'),
    PRIMARY KEY (event, receiver)
);

CREATE INDEX levels_by_receiver ON levels (receiver);
-- An import finds what it has brought before by what it is.
CREATE INDEX recordings_by_digest ON recordings (digest);
