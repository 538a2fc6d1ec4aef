"""The networks behind the metrics, one file each. A new one is its file and its name here: from these its flag, its row in protocols and
its place in keys follow."""

from dreambooth.metrics.networks.base import Network
from dreambooth.metrics.networks.clip import Clip
from dreambooth.metrics.networks.dino import Dino
from dreambooth.metrics.networks.dinov2 import DinoV2
from dreambooth.metrics.networks.lpips import Lpips
from dreambooth.metrics.networks.siglip import SigLip

NETWORKS: dict[str, type[Network]] = {network.name: network for network in (Dino, Clip, Lpips, DinoV2, SigLip)}

__all__ = ["NETWORKS", "Clip", "Dino", "DinoV2", "Lpips", "Network", "SigLip"]
