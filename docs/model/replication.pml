/* The replication protocol of one volume. README.md says what is modelled, within which bounds, and what is not.
   check.py compiles this file with -DREPLICAS=2|3 -DEPOCHS=n -DWRITES=n -DJOINS=n, -DREADS for read leases, -DFLUSH for
   durability=flush, -DMn or -DSn for a mutant.

   One block; its values are ordered as (epoch, sequence) is: epoch * 4 + number of the write in its epoch. Coordinator e is
   the one of epoch e. Nothing crashes here: a coordinator or replica that is dead, cut off or slow is one whose steps do not
   come, and all that a replica holds is durable (but for M11, S5 and FLUSH, which restart replicas).

   Every step is one atomic action of one process that has a single control state, and check() follows each. A message needs no
   channel of its own: what an in-sync member may receive is always the write in flight, as it was last sent; only what is on its
   way to a member outside in_sync may be older, and lies in pend. A lost message is one that is never taken. */

#ifndef REPLICAS
#define REPLICAS 2
#endif
#ifndef EPOCHS
#define EPOCHS 3
#endif
#ifndef WRITES
#define WRITES 2
#endif
#ifndef JOINS
#define JOINS 1
#endif

#define BIT(r) (1 << (r))
#define ALL (BIT(REPLICAS) - 1)
#define MAX(a, b) ((a) > (b) -> (a) : (b))
#define HAS(mask, r) (((mask) & BIT(r)) != 0)
#define VALUE(e, n) ((e) * 4 + (n))
#define V(value) (value) / 4, (value) % 4   /* for printf: epoch and number */

/* The state store's record, changed by compare-and-set only. Its generation is not kept: a write that is sent again under a
   new generation is one whose answers are forgotten. */
byte s_epoch = 1, s_sync = ALL;
bool s_active = true;
byte activated = 1;          /* ghost: the last epoch that became active */

/* Replicas, durable. */
byte promised[REPLICAS] = 1;
byte content[REPLICAS];
byte map[REPLICAS];          /* mask: for whom of the absent members the block is dirty */
byte window;                 /* mask: whose record of the block is above its commit */

/* Coordinators, by epoch. */
#define NONE 0
#define FENCING 1
#define COPYING 2
#define SERVING 3
byte phase[EPOCHS + 1];
byte sync[EPOCHS + 1];       /* in_sync as it knows it; in takeover: who is fenced and answered */
byte from[EPOCHS + 1];       /* takeover: in_sync of the record; then 1 + source */
byte windows[EPOCHS + 1];    /* takeover: who answered with a window */
byte found[EPOCHS + 1];      /* what was read to be copied: in takeover and in resync */
byte must[EPOCHS + 1];       /* whose answers a write needs */
byte answered[EPOCHS + 1];   /* who has answered the write in flight, under the present generation; takeover: who is reconciled */
byte current[EPOCHS + 1];    /* the write in flight, 0: none */
byte sent[EPOCHS + 1];       /* the number of the last write */
typedef Row { byte r[REPLICAS] };
Row pend[EPOCHS + 1];        /* on its way to a member outside in_sync: a value, 0: nothing */
byte cas[EPOCHS + 1];        /* compare-and-set in the store whose answer has not come: 1 + r: shrink without r; JOINED */
#define JOINED 16
/* Resync: of joiner - 1. */
byte joiner[EPOCHS + 1];
byte stage[EPOCHS + 1];
bool needed[EPOCHS + 1];     /* the block is to be copied */
bool behind[EPOCHS + 1];     /* the joiner has not answered a write before the one in flight */
byte stamp[EPOCHS + 1];      /* the last write when the block was read */
#define FENCED 1
#define READ 2
#define COPIED 3
#define MANDATORY 4
#ifdef S13
Row late[EPOCHS + 1];        /* mask: whose bits a replica is still to drop */
#endif
#ifdef READS
/* Mask: from whom there is an unexpired lease, of those who promise another epoch by now. Who still promises this one can give
   another lease at any moment, so that needs no state. */
byte lease[EPOCHS + 1];
#ifdef S15
byte begun[EPOCHS + 1];      /* mask: where a read has begun, with all leases */
#endif
byte forgotten;              /* mask, S5: who has restarted and no longer knows which leases it gave */
#endif
#ifdef M11
byte durable[REPLICAS] = 1;
#endif

byte vis;                    /* ghost: the greatest value acknowledged or returned by a read */
byte writes, joins;          /* budgets */

/* Only inside one action; zero outside. */
byte k, l, m, broken;

/* -DONLY=n leaves out all invariants but In, to see which of them a mutant breaks. */
#ifndef ONLY
#define ONLY 0
#endif
#define ON(n) (ONLY == 0 || ONLY == (n))

inline must_hold(n, condition) {
  if
  :: !(condition) && ON(n) -> printf("I%d is broken\n", n); assert(false)
  :: else
  fi
}

/* -DSYM: of all states that differ only in how the replicas are numbered, go on with one. Their order follows from what they hold;
   where two look alike in all that is compared, more than one state of a kind is kept, which costs time and nothing else. */
#ifdef SYM
c_decl {
  static unsigned long long mix(unsigned long long h, unsigned v) { return (h ^ (v + 1)) * 0x9E3779B97F4A7C15ULL >> 3; }
  static unsigned bit_of(unsigned mask, int r) { return mask >> r & 1; }
  static unsigned renamed(unsigned mask, const int *to) {
    unsigned out = 0;
    for (int r = 0; r < REPLICAS; r++) out |= bit_of(mask, r) << to[r];
    return out;
  }
}
c_code {
  static unsigned long long look_of(int r) {
    unsigned long long h = mix(mix(mix(1, now.promised[r]), now.content[r]), bit_of(now.window, r) * 2 + bit_of(now.s_sync, r));
    for (int e = 1; e <= EPOCHS; e++) {
      unsigned bits = bit_of(now.sync[e], r) | bit_of(now.windows[e], r) << 1 | bit_of(now.must[e], r) << 2 |
                      bit_of(now.answered[e], r) << 3 | (now.joiner[e] == r + 1) << 4 | (now.cas[e] == r + 1) << 5 |
                      (now.phase[e] == FENCING ? bit_of(now.from[e], r) : now.from[e] == r + 1) << 6;
#ifdef READS
      bits |= bit_of(now.lease[e], r) << 7;
#endif
      h = mix(mix(h, bits), now.pend[e].r[r]);
    }
    return h;
  }
  static void renumber(void) {
    unsigned long long look[REPLICAS], all[REPLICAS];
    int to[REPLICAS], same = 1;
    for (int r = 0; r < REPLICAS; r++) look[r] = look_of(r);
    for (int r = 0; r < REPLICAS; r++) {
      unsigned long long sum = 0;
      for (int k = 0; k < REPLICAS; k++)
        sum += bit_of(now.map[r], k) * (look[k] >> 7) + bit_of(now.map[k], r) * (look[k] >> 9);
      all[r] = look[r] * 31 + sum;
    }
    for (int r = 0; r < REPLICAS; r++) {
      to[r] = 0;
      for (int k = 0; k < REPLICAS; k++) to[r] += all[k] > all[r] || (all[k] == all[r] && k < r);
      same &= to[r] == r;
    }
    if (same) return;
    unsigned char promised[REPLICAS], content[REPLICAS], map[REPLICAS], pend[REPLICAS];
    for (int r = 0; r < REPLICAS; r++) {
      promised[to[r]] = now.promised[r]; content[to[r]] = now.content[r]; map[to[r]] = renamed(now.map[r], to);
    }
    for (int r = 0; r < REPLICAS; r++) {
      now.promised[r] = promised[r]; now.content[r] = content[r]; now.map[r] = map[r];
    }
    now.window = renamed(now.window, to);
    now.s_sync = renamed(now.s_sync, to);
    for (int e = 1; e <= EPOCHS; e++) {
      now.sync[e] = renamed(now.sync[e], to);
      now.windows[e] = renamed(now.windows[e], to);
      now.must[e] = renamed(now.must[e], to);
      now.answered[e] = renamed(now.answered[e], to);
      if (now.joiner[e]) now.joiner[e] = to[now.joiner[e] - 1] + 1;
      if (now.cas[e] && now.cas[e] != JOINED) now.cas[e] = to[now.cas[e] - 1] + 1;
      if (now.phase[e] == FENCING) now.from[e] = renamed(now.from[e], to);
      else if (now.from[e]) now.from[e] = to[now.from[e] - 1] + 1;
#ifdef READS
      now.lease[e] = renamed(now.lease[e], to);
#endif
      for (int r = 0; r < REPLICAS; r++) pend[to[r]] = now.pend[e].r[r];
      for (int r = 0; r < REPLICAS; r++) now.pend[e].r[r] = pend[r];
    }
  }
}
#define RENUMBER c_code { renumber(); }
#else
#define RENUMBER skip
#endif

/* I1, I5, I6, I7, I8; the others stand where their event is. */
inline check() {
  k = 0;
  do
  :: k < REPLICAS ->
     if
     :: HAS(s_sync, k) ->
        if
        :: content[k] < vis && ON(1) -> broken = 1
        :: else
        fi;
        l = 0;
        do
        :: l < REPLICAS ->
           if
           :: content[k] != content[l] ->
              if
              :: HAS(s_sync, l) && s_active && current[s_epoch] == 0 && ON(5) -> broken = (broken -> broken : 5)
              :: !HAS(s_sync, l) && !HAS(map[k], l) && !HAS(window, l) &&
                 (!HAS(window, k) || (s_active && current[s_epoch] == 0)) && ON(7) -> broken = (broken -> broken : 7)
              :: else
              fi
           :: else
           fi;
           l++
        :: else -> break
        od
     :: else
     fi;
     k++
  :: else -> break
  od;
  k = 0;
  do
  :: k < REPLICAS -> broken = (promised[k] > s_epoch && ON(8) -> 8 : broken); k++
  :: else -> break
  od;
  broken = (s_sync == 0 && ON(6) -> 6 : broken);
  k = 0; l = 0;
  must_hold(broken, broken == 0);
  broken = 0;
  RENUMBER
}

/* Nothing that coordinator e still does can reach a replica or the store: one state instead of many. */
inline retire(e) {
  sync[e] = 0; from[e] = 0; windows[e] = 0; found[e] = 0; must[e] = 0; answered[e] = 0; current[e] = 0; sent[e] = 0;
  cas[e] = 0; joiner[e] = 0; stage[e] = 0; needed[e] = 0; behind[e] = 0; stamp[e] = 0; phase[e] = NONE;
#ifdef READS
  lease[e] = 0;
#endif
  m = 0;
  do
  :: m < REPLICAS -> pend[e].r[m] = 0; m++
  :: else -> break
  od;
  m = 0
}

#if defined(M1) || defined(M11) || defined(S17)
#define OVER(e) false
#else
#define OVER(e) (s_epoch > (e) && phase[e] != NONE && !(current[e] != 0 && (must[e] & ~answered[e]) == 0))
#endif

inline retire_all() {
  k = 1;
  do
  :: k < EPOCHS ->
     l = 0;
     do
     :: l < REPLICAS && promised[l] > k -> l++
     :: else -> break
     od;
     if
     :: l == REPLICAS && OVER(k) -> retire(k)
     :: else
     fi;
     k++
  :: else -> break
  od;
  k = 0; l = 0
}

inline promise(r, e) {
#ifdef M11
  durable[r] = promised[r];
#endif
#ifdef READS
  lease[promised[r]] = lease[promised[r]] | (promised[r] < e && phase[promised[r]] == SERVING &&
    (HAS(sync[promised[r]], r) || joiner[promised[r]] == r + 1) -> BIT(r) : 0);
#endif
  promised[r] = e
}

inline apply(r, value, absent) {
  content[r] = value;
#ifdef M14
  window = window & ~BIT(r);
#else
  window = window | BIT(r);
#endif
  map[r] = map[r] | (absent)
}

inline give_up(e) {
  joiner[e] = 0; stage[e] = 0; needed[e] = 0; behind[e] = 0; stamp[e] = 0; found[e] = 0; must[e] = sync[e]
}

#ifdef M1
#define ACCEPTS(r, e) true
#else
#define ACCEPTS(r, e) (promised[r] == (e))
#endif

#ifdef READS
#ifdef S6
#define LESSORS(e) sync[e]
#else
#define LESSORS(e) must[e]
#endif
#define LEASE(e, k) (HAS(lease[e], k) || promised[k] == (e) || !HAS(LESSORS(e), k))
#if REPLICAS == 2
#define LEASES(e, r) LEASE(e, 1 - (r))
#else
#define LEASES(e, r) (LEASE(e, ((r) + 1) % 3) && LEASE(e, ((r) + 2) % 3))
#endif
#ifdef S7
#define LEASED(e, r) true
#else
#ifdef S15
#define LEASED(e, r) HAS(begun[e], r)
#else
#define LEASED(e, r) LEASES(e, r)
#endif
#endif
#endif

/* What passes between coordinator e and replica r. */
proctype link(byte e; byte r) {
end:
  do
  /* A write arrives; the answer arrives too, or is lost. */
  :: d_step {
       phase[e] == SERVING && current[e] != 0 && HAS(sync[e], r) && ACCEPTS(r, e) && !HAS(answered[e], r) ->
       printf("replica %d takes %d.%d from epoch %d and answers\n", r, V(current[e]), e);
       apply(r, current[e], ALL & ~sync[e]);
       answered[e] = answered[e] | BIT(r);
       check()
     }
  :: d_step {
       phase[e] == SERVING && current[e] != 0 && HAS(sync[e], r) && ACCEPTS(r, e) && !HAS(answered[e], r) &&
         (content[r] != current[e] || (map[r] | (ALL & ~sync[e])) != map[r]) ->
       printf("replica %d takes %d.%d from epoch %d; no answer comes\n", r, V(current[e]), e);
       apply(r, current[e], ALL & ~sync[e]);
       check()
     }
  /* What was on its way to a member outside in_sync. */
  :: d_step {
       pend[e].r[r] != 0 && ACCEPTS(r, e) ->
       printf("replica %d takes %d.%d from epoch %d, which does not count it as in sync\n", r, V(pend[e].r[r]), e);
       apply(r, pend[e].r[r], ALL & ~sync[e] & ~BIT(r));
       answered[e] = answered[e] | (joiner[e] == r + 1 && current[e] == pend[e].r[r] -> BIT(r) : 0);
       pend[e].r[r] = 0;
       behind[e] = behind[e] && joiner[e] != r + 1;
       check()
     }
  /* The commit point arrives: all that r holds was answered by all. */
  :: d_step {
       phase[e] == SERVING && HAS(window, r) && ACCEPTS(r, e) && (current[e] == 0 || content[r] != current[e]) &&
#ifdef S4
         (HAS(sync[e], r) || joiner[e] == r + 1) ->
#else
         HAS(sync[e], r) ->
#endif
       printf("replica %d learns the commit point of epoch %d\n", r, e);
       window = window & ~BIT(r);
       check()
     }

  /* Shrink: r does not answer, or seems not to. */
  :: d_step {
       phase[e] == SERVING && s_epoch == e && cas[e] == 0 && HAS(sync[e], r) && sync[e] != BIT(r) ->
       printf("epoch %d: in_sync without %d is in the store\n", e, r);
       s_sync = s_sync & ~BIT(r);
       cas[e] = 1 + r;
       map[r] = 0;
       check()
     }
  :: d_step {
       cas[e] == 1 + r ->
       printf("epoch %d knows in_sync without %d, sends %d.%d again\n", e, r, V(current[e]));
       cas[e] = 0;
       sync[e] = sync[e] & ~BIT(r);
       must[e] = must[e] & ~BIT(r);
       pend[e].r[r] = current[e];
#ifndef M12
       answered[e] = 0;
       if
       :: current[e] != 0 && joiner[e] != 0 -> pend[e].r[joiner[e] - 1] = current[e]
       :: else
       fi;
#endif
       check()
     }

  /* Resync: fence r; from here on it gets every write, and the one in flight. */
  :: d_step {
       phase[e] == SERVING && joiner[e] == 0 && !HAS(sync[e], r) && cas[e] == 0 && promised[r] <= e && joins < JOINS ->
       k = 0; m = 1; l = 0;
       do
       :: k < REPLICAS ->
          if
          :: HAS(sync[e], k) && promised[k] == e -> l = 1; m = m & (HAS(map[k], r) -> 1 : 0)
          :: else
          fi;
          k++
       :: else -> break
       od;
       if
       :: l == 1 ->
          joins++;
          promise(r, e);
#ifdef S1
          pend[e].r[r] = (current[e] != 0 -> current[e] : pend[e].r[r]);
#else
          pend[e].r[r] = current[e];
#endif
          map[r] = 0;
          joiner[e] = r + 1;
          stage[e] = FENCED;
#ifdef M4
          needed[e] = m;
#else
          needed[e] = m || HAS(window, r);
#endif
          printf("epoch %d resyncs %d, to copy: %d\n", e, r, needed[e])
       :: else
       fi;
       k = 0; l = 0; m = 0;
       retire_all();
       check()
     }
  /* Read the block from r for the joiner; a read waits for an overlapping write. */
  :: d_step {
       stage[e] == FENCED && needed[e] && HAS(sync[e], r) && ACCEPTS(r, e) && current[e] == 0 ->
       found[e] = content[r];
       stamp[e] = VALUE(e, sent[e]);
       stage[e] = READ;
       printf("epoch %d reads %d.%d of replica %d for its joiner\n", e, V(found[e]), r);
       check()
     }
  /* Write it to the joiner, never over a write newer than what was read. */
  :: d_step {
       joiner[e] == r + 1 && ACCEPTS(r, e) && (stage[e] == READ || (stage[e] == FENCED && !needed[e])) ->
       if
#ifdef S3
       :: needed[e] ->
#else
       :: needed[e] && content[r] <= stamp[e] ->
#endif
          content[r] = found[e];
          window = window | BIT(r)
       :: else
       fi;
       printf("epoch %d: the copy to %d is complete, it has %d.%d\n", e, r, V(content[r]));
       stage[e] = COPIED; needed[e] = 0; found[e] = 0; stamp[e] = 0;
       check()
     }
  /* Its answer becomes mandatory once it has answered all that was sent to it; it inherits the maps. */
  :: d_step {
       joiner[e] == r + 1 && stage[e] == COPIED && ACCEPTS(r, e) &&
#ifndef S2
         (pend[e].r[r] == 0 || (pend[e].r[r] == current[e] && !behind[e])) ->
#else
         true ->
#endif
       k = 0; l = 1; m = 0;
       do
       :: k < REPLICAS ->
          if
          :: HAS(sync[e], k) -> l = l & (ACCEPTS(k, e) -> 1 : 0); m = m | map[k]
          :: else
          fi;
          k++
       :: else -> break
       od;
       if
       :: l == 1 ->
          printf("epoch %d: the answer of %d is mandatory\n", e, r);
#ifndef M8
          must[e] = must[e] | BIT(r);
#endif
#ifdef S14
          map[r] = m & ~BIT(r);
#endif
#ifndef S11
          map[r] = map[r] | (m & ~BIT(r));
#endif
          stage[e] = MANDATORY
       :: else
       fi;
       k = 0; l = 0; m = 0;
       check()
     }
  :: d_step {
       joiner[e] == r + 1 && stage[e] == MANDATORY && s_epoch == e && cas[e] == 0 ->
       printf("epoch %d: in_sync with %d is in the store\n", e, r);
       s_sync = s_sync | BIT(r);
       cas[e] = JOINED;
       check()
     }
  :: d_step {
       joiner[e] == r + 1 && cas[e] == JOINED ->
       printf("epoch %d knows in_sync with %d\n", e, r);
       cas[e] = 0;
#ifdef S12
       give_up(e);
#else
       sync[e] = sync[e] | BIT(r);
       give_up(e);
       pend[e].r[r] = 0;
       k = 0;
       do
       :: k < REPLICAS ->
#ifdef S11
          map[r] = map[r] | (HAS(sync[e], k) -> map[k] & ~BIT(r) : 0);
#endif
#ifdef S13
          late[e].r[k] = late[e].r[k] | BIT(r);
#else
          if
          :: HAS(sync[e], k) && ACCEPTS(k, e) -> map[k] = map[k] & ~BIT(r)
          :: else
          fi;
#endif
          k++
       :: else -> break
       od;
       k = 0;
#endif
       check()
     }

  /* Takeover: fence r; it answers with its window. */
  :: d_step {
#ifdef M9
       phase[e] == FENCING && promised[r] < e ->
#else
       phase[e] == FENCING && promised[r] < e && HAS(from[e], r) ->
#endif
       printf("epoch %d fences %d, which has %d.%d\n", e, r, V(content[r]));
       promise(r, e);
       sync[e] = sync[e] | BIT(r);
       windows[e] = windows[e] | (window & BIT(r));
       retire_all();
       check()
     }
  /* r becomes the source; its window goes into the maps for all absent members. */
  :: d_step {
       phase[e] == FENCING && HAS(sync[e], r) && ACCEPTS(r, e) ->
       printf("epoch %d has fenced mask %d; source is %d\n", e, sync[e], r);
       phase[e] = COPYING;
       from[e] = 1 + r;
       found[e] = content[r];
       answered[e] = BIT(r);
#ifndef M5
       map[r] = map[r] | (HAS(windows[e], r) -> ALL & ~sync[e] : 0);
#endif
       check()
     }
  :: d_step {
       phase[e] == COPYING && HAS(sync[e], r) && !HAS(answered[e], r) && ACCEPTS(r, e) ->
       printf("epoch %d reconciles %d with %d.%d\n", e, r, V(found[e]));
       answered[e] = answered[e] | BIT(r);
#ifndef M3
       if
#ifdef S9
       :: HAS(windows[e], from[e] - 1) ->
#else
       :: windows[e] != 0 ->
#endif
          content[r] = found[e];
#ifdef S8
          window = window & ~BIT(r)
#else
          window = window | BIT(r)
#endif
       :: else
       fi;
#endif
#ifndef M5
#ifndef S10
       map[r] = map[r] | (HAS(windows[e], from[e] - 1) -> ALL & ~sync[e] : 0);
#endif
#endif
       check()
     }

#ifdef S13
  :: d_step {
       late[e].r[r] != 0 && ACCEPTS(r, e) ->
       printf("replica %d drops the bits for mask %d\n", r, late[e].r[r]);
       map[r] = map[r] & ~late[e].r[r];
       late[e].r[r] = 0;
       check()
     }
#endif
#ifdef READS
  /* Time passes. */
  :: d_step {
       HAS(lease[e], r) ->
       printf("the lease of replica %d to epoch %d expires\n", r, e);
       lease[e] = lease[e] & ~BIT(r);
       check()
     }
  /* A read from r, local or remote: when it is done, r's promise and leases from every other member. */
  :: d_step {
       phase[e] == SERVING && HAS(sync[e], r) && content[r] != 0 &&
#ifndef S17
         ACCEPTS(r, e) &&
#endif
#ifndef M7
         current[e] == 0 &&
#endif
         LEASED(e, r) ->
       printf("epoch %d reads %d.%d from %d\n", e, V(content[r]), r);
       must_hold(4, content[r] >= vis);
       must_hold(9, activated <= e);
       vis = content[r];
       check()
     }
#endif
#ifdef S5
  :: d_step {
       e == 1 && !HAS(forgotten, r) ->
       printf("replica %d restarts and forgets its leases\n", r);
       forgotten = forgotten | BIT(r)
     }
#endif
#ifdef S15
  :: d_step {
       phase[e] == SERVING && HAS(sync[e], r) && LEASES(e, r) && !HAS(begun[e], r) ->
       printf("epoch %d has its leases and begins a read from %d\n", e, r);
       begun[e] = begun[e] | BIT(r)
     }
#endif
#ifdef M11
  :: d_step {
       e == 1 && promised[r] != durable[r] ->
       printf("replica %d restarts and promises %d\n", r, durable[r]);
       promised[r] = durable[r]
     }
#endif
  od
}

proctype coordinator(byte e) {
end:
  do
  :: d_step {
       phase[e] == SERVING && current[e] == 0 && writes < WRITES && sent[e] < 3 ->
       writes++;
       sent[e]++;
       current[e] = VALUE(e, sent[e]);
       answered[e] = 0;
       if
       :: joiner[e] != 0 ->
          behind[e] = behind[e] || pend[e].r[joiner[e] - 1] != 0;
          pend[e].r[joiner[e] - 1] = current[e]
       :: else
       fi;
       printf("epoch %d writes %d.%d\n", e, V(current[e]));
       check()
     }
  :: d_step {
       phase[e] == SERVING && current[e] != 0 &&
#ifdef M2
       (answered[e] & sync[e]) != 0 ->
#else
       (must[e] & ~answered[e]) == 0 ->
#endif
       must_hold(2, s_epoch > e + 1 || (s_epoch > e && s_active) || (s_sync & ~answered[e]) == 0);
       printf("epoch %d acknowledges %d.%d\n", e, V(current[e]));
       vis = MAX(vis, current[e]);
       current[e] = 0;
       answered[e] = 0;
       retire_all();
       check()
     }
  :: d_step {
       joiner[e] != 0 && cas[e] == 0 ->
       printf("epoch %d gives up its joiner\n", e);
       give_up(e);
       check()
     }
  :: d_step {
       s_epoch == e - 1 && phase[e] == NONE ->
       printf("epoch %d takes over, in_sync is mask %d\n", e, s_sync);
       s_epoch = e;
       s_active = false;
       phase[e] = FENCING;
       from[e] = s_sync;
       retire_all();
       check()
     }
  :: d_step {
       phase[e] == COPYING && answered[e] == sync[e] && s_epoch == e ->
#if defined(READS) && !defined(M6)
       /* no lease to an earlier epoch is left with those that were fenced */
#ifdef S16
       k = e - 1; l = 0;
#else
       k = 1; l = 0;
#endif
       do
       :: k < e -> l = l | (lease[k] & sync[e] & ~forgotten); k++
       :: else -> break
       od;
       k = 0;
       if
       :: l == 0 ->
#else
       if
       :: true ->
#endif
          printf("epoch %d is active with mask %d\n", e, sync[e]);
          must_hold(6, (sync[e] & ~s_sync) == 0);
          s_sync = sync[e];
          s_active = true;
          activated = e;
          must[e] = sync[e];
          phase[e] = SERVING;
          from[e] = 0; windows[e] = 0; found[e] = 0; answered[e] = 0;
          k = 0;
          do
          :: k < REPLICAS -> map[k] = (HAS(s_sync, k) -> map[k] : 0); k++
          :: else -> break
          od;
          k = 0
       :: else
       fi;
       l = 0;
       check()
     }
  od
}

init {
  byte e, r;
  d_step {
    phase[1] = SERVING; sync[1] = ALL; must[1] = ALL
  }
  atomic {
    e = 1;
    do
    :: e <= EPOCHS ->
       run coordinator(e);
       r = 0;
       do
       :: r < REPLICAS -> run link(e, r); r++
       :: else -> break
       od;
       e++
    :: else -> break
    od;
    e = 0; r = 0
  }
}
