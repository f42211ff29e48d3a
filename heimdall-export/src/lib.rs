//! From a trained network to an ONNX file that others can run.
