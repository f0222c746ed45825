# limbeck in a container, which runs the quickstart unless it is given another verb.
#
#   docker build --tag limbeck .
#   docker run --rm --volume "$PWD/runs:/work/runs" limbeck
#
# That is for CPUs. PyPI's wheels of torch bring CUDA's libraries themselves, for hosts with NVIDIA's container toolkit:
#
#   docker build --tag limbeck:cuda --build-arg TORCH=https://pypi.org/simple .
#   docker run --rm --gpus all --shm-size 8g --volume "$PWD/runs:/work/runs" limbeck:cuda fit --config ...
ARG PYTHON=3.11

FROM python:${PYTHON}-slim AS wheel
WORKDIR /source
COPY . .
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:${PYTHON}-slim
ARG TORCH=https://download.pytorch.org/whl/cpu
COPY constraints.txt /tmp/
COPY --from=wheel /wheels /tmp/wheels
RUN pip install --no-cache-dir --constraint /tmp/constraints.txt --index-url ${TORCH} torch torchvision \
    && pip install --no-cache-dir --constraint /tmp/constraints.txt /tmp/wheels/*.whl \
    && rm -r /tmp/wheels /tmp/constraints.txt \
    && useradd --create-home limbeck \
    && install --directory --owner limbeck /work /work/runs
USER limbeck
WORKDIR /work
ENV OMP_WAIT_POLICY=PASSIVE
ENTRYPOINT ["limbeck"]
CMD ["quickstart"]
