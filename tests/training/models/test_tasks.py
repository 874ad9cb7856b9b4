"""Tasks are read, cut, shifted and spread as they say, and checked before anything is computed."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxedge.training.data.data_files import digits, write_npz
from jaxedge.training.data.datasets import dataset
from jaxedge.training.data.partitions import partition
from jaxedge.training.data.sources import SOURCES, load_data
from jaxedge.training.models.networks import upload_bits
from jaxedge.training.models.tasks import TaskSpec, load_task, task
from jaxedge.training.runs import checkpoints

PLAIN = TaskSpec(model="logistic", strength=0.0)


def rows(data):
    """Samples as comparable bytes."""
    return {x.tobytes() + y.tobytes() for x, y in zip(data.x, data.y, strict=True)}


def test_the_parts_of_a_source_are_disjoint_and_nothing_is_lost():
    found = load_task(PLAIN, 10)
    parts = [found.general, found.devices, found.test]
    assert sum(len(part) for part in parts) == 1797
    assert len(set.union(*(rows(part) for part in parts))) == len(rows(digits()))
    assert len(found.general) == 898
    assert len(found.test) == 224 or len(found.test) == 225
    assert found.sizes.sum() == len(found.devices)
    assert found.class_counts.sum() == len(found.devices)
    assert found.class_counts.shape == (10, 10)


def test_only_the_devices_task_is_shifted():
    plain, turned = load_task(PLAIN, 3), load_task(dataclasses.replace(PLAIN, strength=0.5), 3)
    np.testing.assert_array_equal(plain.general.x, turned.general.x)
    np.testing.assert_array_equal(plain.test.y, turned.test.y)
    assert np.abs(plain.test.x - turned.test.x).mean() > 0.05
    assert np.abs(plain.devices.x - turned.devices.x).mean() > 0.05


def test_a_seed_decides_everything():
    one, same = (load_task(dataclasses.replace(PLAIN, seed=4), 3) for _ in range(2))
    other = load_task(dataclasses.replace(PLAIN, seed=5), 3)
    np.testing.assert_array_equal(one.devices.x, same.devices.x)
    assert not np.array_equal(one.devices.y, other.devices.y)
    kernels = [found.weights["layers"][0]["kernel"][...] for found in (one, same, other)]
    np.testing.assert_array_equal(kernels[0], kernels[1])
    assert not np.array_equal(kernels[0], kernels[2])


@pytest.fixture
def clients(tmp_path):
    """A source with five natural clients of ten samples, told apart by their pixels."""
    x = np.repeat(np.arange(5) / 5, 10)[:, None, None, None] * np.ones((1, 4, 4, 1))
    data = dataset(x, np.tile([0, 1], 25), name="five", offsets=np.arange(6) * 10)
    write_npz(data, tmp_path / "five.npz")
    return f"npz:{tmp_path / 'five.npz'}"


def test_natural_clients_stay_whole_and_the_others_are_general(clients):
    spec = dataclasses.replace(PLAIN, data=clients, partition="natural", test_share=0.2)
    found = load_task(spec, 3)
    assert found.sizes.tolist() == [8, 8, 8]
    owners = found.devices.x[:, 0, 0, 0].reshape(3, 8)
    assert np.all(owners == owners[:, :1])
    assert sorted(np.unique(found.test.x)) == sorted(np.unique(found.devices.x))
    assert not set(np.unique(found.general.x)) & set(np.unique(found.devices.x))
    assert len(found.test) == 6
    with pytest.raises(ValueError, match="all its clients are devices"):
        load_task(spec, 5)


def test_another_data_set_may_be_the_devices_task(clients, tmp_path):
    general = dataset(np.ones((20, 4, 4, 1)), np.arange(20) % 3, name="general")
    write_npz(general, tmp_path / "general.npz")
    spec = dataclasses.replace(PLAIN, data=f"npz:{tmp_path / 'general.npz'}", task_data=clients)
    found = load_task(spec, 3)
    assert len(found.general) == 20
    assert len(found.devices) + len(found.test) == 50
    with pytest.raises(
        ValueError, match=r"has inputs of shape \(8, 8, 1\) and five of \(4, 4, 1\)"
    ):
        load_task(dataclasses.replace(spec, data="digits"), 3)


def test_a_module_of_ones_own_is_checked_against_the_labels():
    data = digits()
    part = partition(data, "iid", 3)

    class Own(nnx.Module):
        def __init__(self, classes):
            self.layer = nnx.Linear(64, classes, rngs=nnx.Rngs(0))

        def __call__(self, x):
            return self.layer(x.reshape(len(x), -1))

    found = task(data, data, part, data, Own(10))
    assert found.sizes.tolist() == [599, 599, 599]
    with pytest.raises(
        ValueError, match=r"outputs of shape \(1, 7\) for one sample: must be \(1, 10"
    ):
        task(data, data, part, data, Own(7))


def test_the_devices_may_train_adapters_alone():
    found = load_task(dataclasses.replace(PLAIN, model="vit", adapters_only=True), 3)
    adapters = found.tuned_of(found.weights)
    every = jax.tree.leaves(found.weights)
    assert 0 < upload_bits(adapters) < 0.2 * upload_bits(every)
    zeroed = found.with_tuned(found.weights, [jnp.zeros_like(leaf) for leaf in adapters])
    changed = [
        not np.array_equal(a, b) for a, b in zip(every, jax.tree.leaves(zeroed), strict=True)
    ]
    names = checkpoints.named_leaves(found.weights)
    assert all("lora" in name for name, moved in zip(names, changed, strict=True) if moved)
    np.testing.assert_array_equal(found.tuned, ["lora" in name for name in names])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"data": "digit"}, "unknown kind of data 'digit': did you mean digits"),
        ({"data": "idx:one"}, "names 1 files: must be idx:IMAGES,LABELS"),
        ({"data": "digits:x"}, "names 1 files: must be digits"),
        ({"data": "cifar10"}, "names 0 files: must be cifar10:FILE"),
        ({"data": "npz:none.npz"}, r"none\.npz: does not exist"),
        ({"model": "mlq"}, "did you mean mlp"),
        ({"shift": "rotate"}, "did you mean rotation"),
        ({"strength": 2.0}, "strength = 2.0: must be a number from 0 to 1"),
        ({"partition": "natural"}, "has no natural clients"),
        ({"test_share": 1.0}, "test_share = 1.0: must be a number between 0 and 1"),
        ({"partition_options": {"alpha": 1.0}}, "iid: unknown options"),
        ({"adapters_only": True}, "no variables of kind LoRAParam"),
        ({"seed": -1}, "seed = -1: must be a whole number >= 0"),
    ],
)
def test_what_cannot_be_is_refused(changes, said):
    with pytest.raises(ValueError, match=said):
        load_task(dataclasses.replace(PLAIN, **changes), 3)


@pytest.mark.parametrize("source", SOURCES)
def test_every_source_is_known(source):
    kind = source.partition(":")[0]
    with pytest.raises(ValueError, match=r"names \d files|does not exist|h5py"):
        load_data(f"{kind}:none,of,these" if kind != "leaf" else "leaf:none.json")
