//! Runs, metrics and model versions in MLflow's own store.
