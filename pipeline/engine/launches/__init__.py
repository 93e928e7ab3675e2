"""The processes of one launch: process 0 tells the others what to do, and each notices how the others end.

<workspace>/launches/<launch>/process-<i>.json   what process i is at
<workspace>/launches/<launch>/process-<i>.lock   held while it lives; a lock dies with its holder

Files are polled and nothing is a collective, so that hours of data work meet no time-out of a process group. A launch's
name can come again with the same address and port, so no file is believed for its name: every process draws a token,
process 0 repeats the tokens that it has seen, and only an announcement that repeats one's own is meant for oneself.
Process 0 touches its file as a heartbeat, for processes on machines where its lock cannot be seen.
"""
