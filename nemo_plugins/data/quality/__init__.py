"""Quality of a text as the Bielik reports judge it: about 150 features, XGBoost, calibrated P(LOW), P(MEDIUM), P(HIGH)."""
