"""Packages from elsewhere: one store into another (`copying`), folders and other indexes (`importing`)."""
