"""The reference service: an agent behind HTTP whose threads langcairn keeps.

``python -m examples.service`` serves it; docs/service.md says how it is built and deployed.
"""
