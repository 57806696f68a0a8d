"""Upper limits on a risk that hold with a stated confidence: for cases, and for clusters of cases."""

from __future__ import annotations

from typing import TYPE_CHECKING

from safeframe.lazy import lazy_names

if TYPE_CHECKING:
    from safeframe.certificates.cases import (
        Certificate,
        CertifiedThreshold,
        bonferroni,
        bonferroni_search,
        cases_needed,
        certify,
        certify_counts,
        certify_posterior,
        certify_threshold,
        clopper_pearson_lower,
        clopper_pearson_upper,
        first_failure,
        fixed_sequence,
        validate_delta,
    )
    from safeframe.certificates.clusters import (
        betting_upper,
        certify_clusters,
        certify_episodes,
        cluster_bootstrap_upper,
        hoeffding_bentkus_upper,
    )

__all__ = [
    "Certificate",
    "CertifiedThreshold",
    "betting_upper",
    "bonferroni",
    "bonferroni_search",
    "cases_needed",
    "certify",
    "certify_clusters",
    "certify_counts",
    "certify_episodes",
    "certify_posterior",
    "certify_threshold",
    "clopper_pearson_lower",
    "clopper_pearson_upper",
    "cluster_bootstrap_upper",
    "first_failure",
    "fixed_sequence",
    "hoeffding_bentkus_upper",
    "validate_delta",
]

HOMES = {
    "safeframe.certificates.cases": (
        "Certificate",
        "CertifiedThreshold",
        "bonferroni",
        "bonferroni_search",
        "cases_needed",
        "certify",
        "certify_counts",
        "certify_posterior",
        "certify_threshold",
        "clopper_pearson_lower",
        "clopper_pearson_upper",
        "first_failure",
        "fixed_sequence",
        "validate_delta",
    ),
    "safeframe.certificates.clusters": (
        "betting_upper",
        "certify_clusters",
        "certify_episodes",
        "cluster_bootstrap_upper",
        "hoeffding_bentkus_upper",
    ),
}
"""Where each public name is defined."""

__getattr__, __dir__ = lazy_names(__name__, HOMES)
