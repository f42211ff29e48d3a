-- What receivers measured that record no samples, or beside them.
CREATE TABLE levels (
    event     TEXT NOT NULL REFERENCES events (id),
    receiver  TEXT NOT NULL REFERENCES receivers (name),
    -- Received level, in dB relative to any reference of the receiver.
    rss_db    REAL,
    -- Level above the receiver's noise.
    snr_db    REAL,
    -- The receiver's noise, on the scale of rss_db.
    noise_db  REAL,
    -- Time of arrival after the earliest one of the event.
    arrival_s REAL CHECK (arrival_s >= 0),
    PRIMARY KEY (event, receiver)
) STRICT, WITHOUT ROWID;

CREATE INDEX levels_by_receiver ON levels (receiver);
-- An import finds what it has brought before by what it is.
CREATE INDEX recordings_by_digest ON recordings (digest);
