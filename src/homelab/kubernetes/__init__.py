"""The Kubernetes API of a cluster, asked with what a kubeconfig holds."""

from homelab.kubernetes.api import KubernetesApi, NotVouchedFor, served_authority, url_at
from homelab.kubernetes.kubeconfig import Access, read_access

__all__ = ["Access", "KubernetesApi", "NotVouchedFor", "read_access", "served_authority", "url_at"]
