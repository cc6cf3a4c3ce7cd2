"""From outcomes of trials to a learning curve and a verdict; numpy and scipy alone."""
