"""``python -m langcairn.demo``: an agent is killed, resumed, interrupted, rewound and forked.

Everything is real but the chat model, which follows a script: the graph, its tools, the
processes, the SIGKILL, the database. It needs no key and no network.
"""
