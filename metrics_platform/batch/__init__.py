"""The batch layer: exact windows from all raw events, what is owed of them, and previews of definitions.

When it runs, and for which windows it is asked, is said in orchestration.
"""
