"""The Hub: a published folder as a release of a dataset repository, and the difference between two releases.

`push` uploads a release in one commit and tags it. `release` makes the files of a release from a published folder.
`versions` reads releases from folders and repositories; `difference` compares two by row. `client` sends requests.
"""
