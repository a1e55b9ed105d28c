"""A site with a primary, a replica and no other database, as in Django's docs."""

from tests.settings import *  # noqa: F403
from tests.settings import DATABASES as ALONE

PRIMARY = ALONE["default"]
DATABASES = {
    "default": {},
    "primary": {**PRIMARY, "TEST": {**PRIMARY.get("TEST", {}), "DEPENDENCIES": []}},
    "replica": {**PRIMARY, "ENGINE": "tests.replicas", "TEST": {"MIRROR": "primary"}},
}
DATABASE_ROUTERS = ["tests.replicas.router.PrimaryReplicaRouter"]
