"""A migrated store over the little shop's catalogue, in place of the whole installation's."""

from metrics_platform_tests.support.shop_store import conn, shop

__all__ = ["conn", "shop"]
