"""Tokens and what they grant."""

from entrepot.access.callers import ANONYMOUS, OPEN, Caller
from entrepot.access.grants import PERMISSIONS, Permission, Token
from entrepot.access.tokens import Tokens

__all__ = ["ANONYMOUS", "OPEN", "PERMISSIONS", "Caller", "Permission", "Token", "Tokens"]
