# dreambooth in a container. Written with care and not built here: this project's own machines have no Docker.
#
#   docker build -t dreambooth .                                                            NVIDIA (CUDA 12.8)
#   docker build -t dreambooth:cpu --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cpu .
#   docker run --rm --gpus all -v "$PWD:/work" -v dreambooth-cache:/cache dreambooth train --instance_data_dir photos --class_noun dog ...
FROM python:3.12-slim

ARG TORCH_INDEX=https://download.pytorch.org/whl/cu128
ARG EXTRAS=photos,lean,optimizers

ENV PIP_NO_CACHE_DIR=1 HF_HOME=/cache/huggingface DREAMBOOTH_CACHE=/cache/dreambooth PYTHONUNBUFFERED=1
RUN pip install --index-url "${TORCH_INDEX}" "torch==2.13.0"

COPY . /src
RUN pip install -c /src/constraints.txt "/src[${EXTRAS}]" && rm -rf /src

# Runs and caches belong to whoever starts the container (docker run --user), so both places are everybody's.
RUN mkdir -p /cache /work && chmod 1777 /cache /work
WORKDIR /work
ENTRYPOINT ["dreambooth"]
CMD ["doctor"]
