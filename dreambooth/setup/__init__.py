"""From settings, or a run's folder, to a model made ready. Here: what a run's folder says about the run."""
