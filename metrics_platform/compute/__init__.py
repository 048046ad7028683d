"""From events to totals: deduplication, the totals of each window, and two results compared.

Both layers count with this code, on Spark. It neither reads events nor writes numbers.
"""
