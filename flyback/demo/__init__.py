"""`flyback demo`: a real model, real reviewers and 23,703 real texts, played through the whole flywheel."""
