"""The partitions of an installation as one: whose user is where, and what ranges over all of them.

`places`: one partition as this process knows it (address, state, whether it responds).
`router`: calls one partition, groups items by partition, or calls all.
`rules`, `stores`: for each repository, how each of its methods is routed.
The other modules merge what ranges over partitions: lists, jobs, webhooks, events.

With one partition nothing of this is used: repositories work on the database itself.
"""
