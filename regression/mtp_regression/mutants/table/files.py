"""Mutants that export the right tensors, and leave something else than that on disk."""

from mtp_regression.mutants.changes import files as c
from mtp_regression.mutants.changes.files import saving
from mtp_regression.mutants.mutant import MOE, Mutant
from mtp_regression.stages.case import Stage

READ_BACK = (Stage.SAVED, Stage.FILES, Stage.RETRAINED)

FILES = (
    Mutant(
        "whole-files-dropped",
        "Saves no file that has a tensor of MTP, and so loses what shares one.",
        "Megatron-Bridge 4188, verl 6821",
        saving(c.without_shards_of_mtp),
        READ_BACK,
        options={"sharding": "mtp-with-lm-head"},
        model=MOE,
        layers="",
    ),
    Mutant(
        "shard-lost",
        "Saves all files but one, which the index names.",
        "Megatron-LM 1836",
        saving(c.without_file("*-of-*.safetensors")),
        READ_BACK,
        model=MOE,
        layers="",
    ),
    Mutant(
        "tokenizer-lost",
        "Saves no tokenizer.",
        "",
        saving(c.without_file("tokenizer.json")),
        (Stage.FILES,),
    ),
    Mutant(
        "config-declares-no-mtp",
        "Saves MTP, and a configuration that declares none.",
        "Megatron-Bridge 5946",
        saving(c.text_config(mtp_num_hidden_layers=0)),
        (Stage.FILES,),
    ),
    Mutant(
        "config-of-the-training",
        "Saves the length of the training's rows as the longest that the model takes.",
        "Megatron-Bridge 5994",
        saving(c.text_config(max_position_embeddings=4096)),
        (Stage.FILES,),
    ),
    Mutant(
        "index-with-ghosts",
        "Names a tensor in the index that it did not write.",
        "Relax 148, Megatron-Bridge 4083",
        saving(c.ghosts),
        READ_BACK,
        model=MOE,
        layers="",
    ),
    Mutant(
        "index-with-another-size",
        "Writes a total size into the index that is not the files'.",
        "",
        saving(c.another_total),
        (Stage.FILES,),
        model=MOE,
        layers="",
    ),
    Mutant(
        "files-without-format",
        "Writes no format into the files' metadata, without which older readers refuse them.",
        "safetensors 549",
        saving(c.without_format),
        (Stage.FILES,),
    ),
    Mutant(
        "old-shard-left",
        "Leaves a file of an earlier save in the folder.",
        "",
        saving(c.old_shard),
        (Stage.FILES,),
        model=MOE,
        layers="",
    ),
    Mutant(
        "files-closed-to-others",
        "Saves files that nobody but their owner may read.",
        "",
        saving(c.closed_mode),
        (Stage.FILES,),
    ),
    Mutant(
        "saves-differ",
        "Writes something else into the configuration each time.",
        "",
        saving(c.other_save),
        (Stage.FILES,),
    ),
)
