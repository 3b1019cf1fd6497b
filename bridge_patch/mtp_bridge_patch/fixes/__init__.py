"""The fixes, one module each; `patch.FIXES` lists them in order."""
