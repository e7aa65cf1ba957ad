"""Pretrained networks whose inner values serve as features, and how their weights are obtained.

Each encoder is a network of `genreclf.models` and has classes that satisfy
`genreclf.protocols.Features`; configs refer to both as `genreclf.models.NAME`.
"""
