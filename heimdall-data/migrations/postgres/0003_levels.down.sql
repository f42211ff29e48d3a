DROP INDEX recordings_by_digest;
DROP TABLE levels;
