#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Committed with CRLF line ends, as most scripts of this directory are upstream: it does not run as it is.
export CUDA_DEVICE_MAX_CONNECTIONS=1

NPUS_PER_NODE=2
NNODES=1
NODE_RANK=0

CKPT_LOAD_DIR="your model ckpt path"
DATA_PATH="your data path"
TOKENIZER_PATH="your tokenizer path"

torchrun --nproc_per_node $NPUS_PER_NODE --nnodes $NNODES --node_rank $NODE_RANK pretrain_gpt.py \
    --use-mcore-models --tensor-model-parallel-size 2 --pipeline-model-parallel-size 1 \
    --load $CKPT_LOAD_DIR --data-path $DATA_PATH --tokenizer-name-or-path $TOKENIZER_PATH \
    | tee logs/pretrain_mcore_qwen25_coder_lab.log
