# syntax=docker/dockerfile:1
# Gyrus on the CPU:      docker build -t gyrus .
# With PyTorch for the CPU only the image is several GB smaller. Give the index of its CPU wheels, as the installation
# page of PyTorch names it:  docker build -t gyrus --build-arg TORCH_INDEX=<address> .
# Use:                   docker run --rm -u "$(id -u):$(id -g)" -v ./data:/data:ro -v ./runs:/runs gyrus \
#                            train --config /runs/recipe.yaml --data /data --out /runs/first
ARG PYTHON=3.12-slim-bookworm

FROM python:${PYTHON} AS build
ARG TORCH_INDEX=""
ENV PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/gyrus
ENV PATH=/opt/gyrus/bin:$PATH
WORKDIR /build
# What changes seldom comes first: PyTorch, then the other libraries, then our own code, each a layer of its own.
COPY constraints.txt ./
RUN --mount=type=cache,target=/root/.cache/pip \
    pip install --constraint constraints.txt ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} torch torchvision
COPY pyproject.toml README.md LICENSE ./
RUN --mount=type=cache,target=/root/.cache/pip \
    mkdir -p src/gyrus && touch src/gyrus/__init__.py \
    && pip install --constraint constraints.txt ".[dicom,postgresql,tensorboard,tuning,volumes]" mlflow-skinny \
    && pip uninstall --yes gyrus-mri
COPY src ./src
RUN pip install --no-cache-dir --no-deps .

FROM python:${PYTHON}
COPY --from=build /opt/gyrus /opt/gyrus
ENV PATH=/opt/gyrus/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    GYRUS_CACHE=/cache \
    MPLCONFIGDIR=/tmp/matplotlib
# Whoever runs it with -u may write to the store of decoded images too.
RUN useradd --uid 10001 --no-create-home gyrus && install -d -m 1777 /cache /runs
USER 10001
WORKDIR /runs
ENTRYPOINT ["gyrus"]
CMD ["--help"]
