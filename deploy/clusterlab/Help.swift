/// What `lab help` prints.
let help = """
    USAGE: lab COMMAND [--name NAME]

    A cluster on one machine, to try out what only many machines can show. Every node has its own network, process
    numbers, host name, /run and /dev/shm, and its own corosync; the nodes are joined by two networks ("planes").
    Needs root. Nothing outside the lab changes; `lab down` removes all of it.

    Building and looking
      up [N] [--token MS] [--planes 1|2] [--plain] [--link-tls] [--no-realtime] [--two-node yes|no] [--tie-breaker]
         [--payload N,N]
                             N nodes (default 3), and wait until they are a cluster. A dead node is noticed after
                             about 2.2 tokens (default 300 ms). --plain: corosync without encryption; --payload: nodes
                             that are no controllers
      status                 power, corosync, members and quorum as each node sees them, and the faults
      exec N COMMAND …       run a command in a node; SAF_RUN_DIR and its sisters are set for it
      down                   end all nodes and remove everything; also what crashed runs left behind

    Machines
      kill N                 power off: every process of the node dies at one moment; its /run and /dev/shm are lost
      boot N                 power on
      stop N [PROGRAM]       stand still: the whole node, or every process called PROGRAM
      cont N [PROGRAM]       go on
      slow N PROGRAM [--stopped MS] [--running MS] [--seconds S]
                             PROGRAM stands still for 90 ms and runs for 10 ms, again and again, for 10 s
      corosync N start|end|kill
                             corosync alone: end takes leave of the others, kill does not
      saf N start|end        the middleware (amfd and its daemons) of a node

    Networks
      partition GROUP …      nodes of different groups do not hear each other: lab partition 1 2,3
                             nodes in no group are one more group
      isolate N              one node against all
      loss PERCENT [N]       of all packets to and from node N, or each node; 0: none
      cut-plane P [N]        pull the cables of plane P (0 or 1) out, of one node or of all
      restore-plane P [N]    put them in again
      delay-proxy N MS [--plane P] [--jitter MS]
                             node N is farther away: a round trip takes MS longer (and by chance up to the jitter more),
                             on plane P or on all; nothing overtakes. status tells what was carried, and lost
      delay-proxy N off [--plane P]
                             as near as before
      heal                   take all faults of the network away

    EXAMPLE: what a partition does
      deploy/lab up 3
      deploy/lab partition 1 2,3
      deploy/lab status             node 1 is alone and not quorate; 2 and 3 are a quorate cluster
      deploy/lab heal
      deploy/lab down

    Exit status: 0 done; 1 it failed, stderr says why; 64 wrong arguments; `exec`: that of the command.

    """
