"""How is a trained model run? One `Runner` with a device, its cache, and text generation on top."""
