"""Defers imports of packages that a bridge imports and a conversion never uses, until one is used.

Half of the time of `import megatron.bridge` goes into modelopt, diffusers, scipy, datasets and others, of
which a conversion uses nothing. They are not left out, and nothing of an installed package is changed:

- A module of a listed package is found as ever; one that is not installed is missing as ever. But it is not
  run: who imports it gets the module, empty, or stand-ins for those of its names that are listed.
- Whatever is done with either, but to hold it, is a touch: an attribute, a call, an operator, a base class,
  `hash`. A touch is Python's own import of the module, with its locks, its order and its errors, into the
  same module object. Then the real thing answers.
- With a touch the whole package is as if it had never been deferred, and each module that holds a stand-in
  is given the real thing.
- Without a touch one question is answered, for it has one answer: nothing is an instance of a class of a
  package that has not been run. Megatron-Bridge asks it of modelopt for each parameter that it converts.

Two things remain: an installed package whose import fails does so at the touch, not before; and what an
import does to other packages, as modelopt's does to torch's FSDP, it does at the touch.

`packages.toml` is the list. Tests see that it is what the bridge asks for, that each name is what the list
says, that a conversion touches nothing of it, and that reports are the same without it. `MTPKIT_DEFER=0` in
the environment turns it off.
"""
