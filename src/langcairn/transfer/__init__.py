"""Moving what stores hold: backups, migrations, and whether all is as it was written."""

from langcairn.transfer.backups import BackupReport, abackup, backup
from langcairn.transfer.repairing import RepairReport, arepair, repair
from langcairn.transfer.reports import Finding, Progress
from langcairn.transfer.restoring import RestoreReport, arestore, restore
from langcairn.transfer.verifying import VerifyReport, averify, verify

__all__ = [
    "BackupReport",
    "Finding",
    "Progress",
    "RepairReport",
    "RestoreReport",
    "VerifyReport",
    "abackup",
    "arepair",
    "arestore",
    "averify",
    "backup",
    "repair",
    "restore",
    "verify",
]
