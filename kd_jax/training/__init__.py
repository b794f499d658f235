"""Trains a network: objective, step, epoch, fit, job."""
