DROP TABLE recordings;
DROP TABLE events;
DROP TABLE sessions;
DROP TABLE sources;
DROP TABLE receivers;
PRAGMA application_id = 0;
