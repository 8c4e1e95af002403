"""Moving what stores hold: backups, migrations, and whether all is as it was written."""

from langcairn.transfer.backups import BackupReport, abackup, backup
from langcairn.transfer.bars import progress_bar
from langcairn.transfer.dual import DualWriteSaver
from langcairn.transfer.holding import BackupHolding, backup_contains
from langcairn.transfer.langgraphgo import LangGraphGo
from langcairn.transfer.moving import MigrationReport, amigrate, migrate
from langcairn.transfer.repairing import RepairReport, arepair, repair
from langcairn.transfer.reports import Finding, Progress
from langcairn.transfer.restoring import RestoreReport, arestore, restore
from langcairn.transfer.verifying import VerifyReport, averify, verify

__all__ = [
    "BackupHolding",
    "BackupReport",
    "DualWriteSaver",
    "Finding",
    "LangGraphGo",
    "MigrationReport",
    "Progress",
    "RepairReport",
    "RestoreReport",
    "VerifyReport",
    "abackup",
    "amigrate",
    "arepair",
    "arestore",
    "averify",
    "backup",
    "backup_contains",
    "migrate",
    "progress_bar",
    "repair",
    "restore",
    "verify",
]
