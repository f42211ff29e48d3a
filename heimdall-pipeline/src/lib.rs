//! From one YAML file to a registered model.
