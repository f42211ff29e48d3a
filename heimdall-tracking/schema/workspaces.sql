-- For tests: what later revisions of MLflow change in the tables that are written. Experiments and
-- models lie in workspaces, inputs have a step. Constraints as in revision 1b5f0d9ad7c1.

UPDATE alembic_version SET version_num = '1b5f0d9ad7c1';

ALTER TABLE inputs ADD COLUMN step BIGINT DEFAULT '0' NOT NULL;

CREATE TABLE experiments_new (
    experiment_id INTEGER NOT NULL,
    name VARCHAR(256) NOT NULL,
    artifact_location VARCHAR(256),
    lifecycle_stage VARCHAR(32),
    creation_time BIGINT,
    last_update_time BIGINT,
    workspace VARCHAR(63) DEFAULT 'default' NOT NULL,
    CONSTRAINT experiment_pk PRIMARY KEY (experiment_id),
    CONSTRAINT uq_experiments_workspace_name UNIQUE (workspace, name)
);
INSERT INTO experiments_new SELECT *, 'default' FROM experiments;
DROP TABLE experiments;
ALTER TABLE experiments_new RENAME TO experiments;

DROP TABLE model_version_tags;
DROP TABLE registered_model_aliases;
DROP TABLE registered_model_tags;
DROP TABLE model_versions;
DROP TABLE registered_models;

CREATE TABLE registered_models (
    name VARCHAR(256) NOT NULL,
    creation_time BIGINT,
    last_updated_time BIGINT,
    description VARCHAR(5000),
    workspace VARCHAR(63) DEFAULT 'default' NOT NULL,
    CONSTRAINT registered_model_pk PRIMARY KEY (workspace, name)
);

CREATE TABLE model_versions (
    name VARCHAR(256) NOT NULL,
    version INTEGER NOT NULL,
    creation_time BIGINT,
    last_updated_time BIGINT,
    description VARCHAR(5000),
    user_id VARCHAR(256),
    current_stage VARCHAR(20),
    source VARCHAR(500),
    run_id VARCHAR(32),
    status VARCHAR(20),
    status_message VARCHAR(500),
    run_link VARCHAR(500),
    storage_location VARCHAR(500),
    workspace VARCHAR(63) DEFAULT 'default' NOT NULL,
    CONSTRAINT model_version_pk PRIMARY KEY (workspace, name, version),
    FOREIGN KEY (workspace, name) REFERENCES registered_models (workspace, name)
);

CREATE TABLE model_version_tags (
    "key" VARCHAR(250) NOT NULL,
    value TEXT,
    name VARCHAR(256) NOT NULL,
    version INTEGER NOT NULL,
    workspace VARCHAR(63) DEFAULT 'default' NOT NULL,
    CONSTRAINT model_version_tag_pk PRIMARY KEY (workspace, "key", name, version),
    FOREIGN KEY (workspace, name, version) REFERENCES model_versions (workspace, name, version)
);

CREATE TABLE registered_model_aliases (
    alias VARCHAR(256) NOT NULL,
    version INTEGER NOT NULL,
    name VARCHAR(256) NOT NULL,
    workspace VARCHAR(63) DEFAULT 'default' NOT NULL,
    CONSTRAINT registered_model_alias_pk PRIMARY KEY (workspace, name, alias),
    FOREIGN KEY (workspace, name) REFERENCES registered_models (workspace, name)
);

-- Another workspace, with the same names.
INSERT INTO experiments
    (experiment_id, name, artifact_location, lifecycle_stage, workspace)
VALUES (900, 'localization', 'mlflow-artifacts:/900', 'active', 'others');
INSERT INTO registered_models (name, workspace) VALUES ('heimdall', 'others');
INSERT INTO model_versions (name, version, current_stage, status, source, workspace)
VALUES ('heimdall', 41, 'None', 'READY', 'runs:/x/model', 'others');
