"""The leakage guard: what a data set shares with the sets that models will be measured on."""
