/*
 * safCkpt.h - what the Checkpoint Service offers beside saCkpt.h
 *
 * Hot standby: a process that follows a checkpoint's updates and is up to date when it takes over. Several sections in
 * one call, whether something exists, overwriting where little changed, and checkpoints that survive a cold start.
 *
 * The rules at the beginning of saCkpt.h hold here, too. Handles are the same; with version B.01 as well as B.02.
 */
#ifndef SAF_CKPT_H
#define SAF_CKPT_H

#include "saCkpt.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Persistence --------------------------------------------------------------------------------------------- */

/**
 * A creation flag, to be added to the others: changes are also written to a database on each node that has a replica.
 * A call that changes the checkpoint returns when that is durable. After a start of the whole cluster from nothing the
 * checkpoint is there again, with what was acknowledged last; retention begins anew then.
 */
#define SAF_CKPT_PERSISTENT 0x10

/* ---- Changes ------------------------------------------------------------------------------------------------- */

typedef enum {
    /** A new section with data and expirationTime. */
    SAF_CKPT_SECTION_CREATED = 1,
    /** Data at dataOffset; a gap behind the section's old end is zero. */
    SAF_CKPT_SECTION_WRITTEN = 2,
    /** The data is the whole section. */
    SAF_CKPT_SECTION_OVERWRITTEN = 3,
    SAF_CKPT_SECTION_DELETED = 4,
    /** It got another expirationTime. */
    SAF_CKPT_SECTION_EXPIRATION_SET = 5,
    /** The service deleted it, for its time was over. Told only. */
    SAF_CKPT_SECTION_EXPIRED = 6
} SafCkptChangeKindT;

/** What happened, or is to happen, to one section. What a kind does not name is 0. */
typedef struct {
    SafCkptChangeKindT kind;
    SaCkptSectionIdT sectionId;
    const void *data;
    SaSizeT dataSize;
    SaOffsetT dataOffset;
    SaTimeT expirationTime;
} SafCkptChangeT;

/**
 * Changes several sections: all changes are done, in their order, or none, to every reader and across every crash.
 *
 * @param changes           kinds 1 to 5; a section that is created needs an id
 * @param erroneousIndex    set to the first change that could not be done, unchanged on success; may be NULL
 * @param changeNumber      set to the number of the update, by which followers and safCkptSectionsGet() know it; may be
 *                          NULL
 *
 * @return SA_AIS_OK; SA_AIS_ERR_INVALID_PARAM (changes is NULL, numberOfChanges is 0, a kind; a section that is created
 *         without an id), and where the function of saCkpt.h that does the same to one section says so;
 *         SA_AIS_ERR_EXIST, SA_AIS_ERR_NOT_EXIST, SA_AIS_ERR_NO_SPACE, SA_AIS_ERR_ACCESS and SA_AIS_ERR_LIBRARY as
 *         there; SA_AIS_ERR_NO_RESOURCES (more than 65,536 changes, or 64 MiB).
 */
SaAisErrorT safCkptUpdate(
    SaCkptCheckpointHandleT checkpointHandle, const SafCkptChangeT *changes, SaUint32T numberOfChanges,
    SaUint32T *erroneousIndex, SaUint64T *changeNumber);

/* ---- Hot standby --------------------------------------------------------------------------------------------- */

typedef enum {
    /**
     * All there is, each section as SAF_CKPT_SECTION_CREATED: forget what you had. Comes first, and again only if
     * updates were missed for good, by a follower that was too slow or cut off for too long.
     */
    SAF_CKPT_SNAPSHOT = 1,
    /** One update, all of it. Its changeNumber is one more than that of the event before. */
    SAF_CKPT_UPDATE = 2,
    /** Nothing will follow: the checkpoint is gone. */
    SAF_CKPT_UPDATES_END = 3
} SafCkptEventKindT;

/** What a follower is told. */
typedef struct {
    SafCkptEventKindT kind;
    SaUint32T numberOfChanges;
    const SafCkptChangeT *changes;
    /** Updates of a checkpoint are numbered: the one who writes gets the same number from safCkptUpdate(). */
    SaUint64T changeNumber;
    /** When the update was made; of a snapshot SA_TIME_UNKNOWN. */
    SaTimeT time;
} SafCkptEventT;

/** @param cookie  what was given to safCkptUpdatesStart() */
typedef void (*SafCkptUpdatesCallbackT)(
    SaCkptCheckpointHandleT checkpointHandle, const SafCkptEventT *event, void *cookie);

/**
 * Follows a checkpoint: first a snapshot, then every update, by whomever, in order, without a gap and without a repeat,
 * also across a restart of the service. The callback runs in saCkptDispatch() for the handle the checkpoint was
 * opened with; the events of one checkpoint one after the other, however many threads dispatch.
 *
 * A follower that does not dispatch costs nobody else anything: when too much has piled up it is dropped, and a
 * snapshot follows instead.
 *
 * @return SA_AIS_OK; SA_AIS_ERR_INVALID_PARAM (callback is NULL); SA_AIS_ERR_ACCESS (not opened with READ);
 *         SA_AIS_ERR_EXIST (this open of the checkpoint is followed already).
 */
SaAisErrorT safCkptUpdatesStart(
    SaCkptCheckpointHandleT checkpointHandle, SafCkptUpdatesCallbackT callback, void *cookie);

/**
 * Follows no more; closing the checkpoint does the same. A callback that another thread is about to call may still run.
 *
 * @return SA_AIS_OK; SA_AIS_ERR_NOT_EXIST (was not followed).
 */
SaAisErrorT safCkptUpdatesStop(SaCkptCheckpointHandleT checkpointHandle);

/* ---- Replicas ------------------------------------------------------------------------------------------------ */

typedef enum {
    /** It is being brought up to date. */
    SAF_CKPT_REPLICA_SYNCHRONISING = 1,
    /** It has everything that was acknowledged. */
    SAF_CKPT_REPLICA_CURRENT = 2,
    /** Its node is away, and nobody else has everything: it is waited for. */
    SAF_CKPT_REPLICA_ABSENT = 3
} SafCkptReplicaStateT;

typedef struct {
    /** As the membership service numbers the nodes. */
    SaUint32T nodeId;
    SafCkptReplicaStateT state;
    SaBoolT isActive;
} SafCkptReplicaT;

/**
 * @param epoch     greater with each change of the active replica
 * @param replicas  all of them, by node
 * @param cookie    what was given to safCkptReplicaChangesStart()
 */
typedef void (*SafCkptReplicaChangesCallbackT)(
    SaCkptCheckpointHandleT checkpointHandle, SaUint64T epoch, const SafCkptReplicaT *replicas,
    SaUint32T numberOfReplicas, void *cookie);

/**
 * Tells where a checkpoint's replicas are: once now, and whenever that changes. States that follow each other faster
 * than they are dispatched are told as the last of them.
 *
 * @return SA_AIS_OK; SA_AIS_ERR_INVALID_PARAM (callback is NULL); SA_AIS_ERR_EXIST (done already for this open of the
 *         checkpoint).
 */
SaAisErrorT safCkptReplicaChangesStart(
    SaCkptCheckpointHandleT checkpointHandle, SafCkptReplicaChangesCallbackT callback, void *cookie);

/** @return SA_AIS_OK; SA_AIS_ERR_NOT_EXIST (was not told). */
SaAisErrorT safCkptReplicaChangesStop(SaCkptCheckpointHandleT checkpointHandle);

/* ---- All sections -------------------------------------------------------------------------------------------- */

/** A section with its data. */
typedef struct {
    SaCkptSectionDescriptorT descriptor;
    /** descriptor.sectionSize bytes; NULL if there are none, or the section is corrupted. */
    void *data;
} SafCkptSectionT;

/**
 * Reads all sections with their data in one call, as they are after one and the same update.
 *
 * @param sections          set to one piece of memory with everything in it, for safCkptSectionsFree() or free(); NULL
 *                          if there are none
 * @param numberOfSections  set to their number
 * @param changeNumber      set to the number of that update; may be NULL
 *
 * @return SA_AIS_OK, also if there are none; SA_AIS_ERR_INVALID_PARAM (a pointer is NULL); SA_AIS_ERR_ACCESS (not
 *         opened with READ); SA_AIS_ERR_NOT_EXIST (no active replica); SA_AIS_ERR_NO_RESOURCES (more than
 *         56 MiB: read them one by one).
 */
SaAisErrorT safCkptSectionsGet(
    SaCkptCheckpointHandleT checkpointHandle, SafCkptSectionT **sections, SaUint32T *numberOfSections,
    SaUint64T *changeNumber);

/** Gives them back; NULL is nothing to give back. */
void safCkptSectionsFree(SafCkptSectionT *sections);

/* ---- Whether something exists -------------------------------------------------------------------------------- */

/**
 * Whether there is a checkpoint of the name, without opening it.
 *
 * @return SA_AIS_OK; SA_AIS_ERR_NOT_EXIST; SA_AIS_ERR_INVALID_PARAM (the name, as for an open).
 */
SaAisErrorT safCkptCheckpointCheck(SaCkptHandleT ckptHandle, const SaNameT *checkpointName);

/**
 * Whether there is a section, without reading it.
 *
 * @return SA_AIS_OK; SA_AIS_ERR_NOT_EXIST (no such section, or no active replica); SA_AIS_ERR_INVALID_PARAM (sectionId
 *         is NULL).
 */
SaAisErrorT safCkptSectionCheck(SaCkptCheckpointHandleT checkpointHandle, const SaCkptSectionIdT *sectionId);

/* ---- Overwriting where little changed ------------------------------------------------------------------------ */

/**
 * As saCkptSectionOverwrite(), but only what differs from what the section holds is sent to the service, to other nodes
 * and to followers. For large sections of which little changes. For that the library keeps a copy of what it wrote this
 * way, until the checkpoint is closed; when somebody else has written the section since, everything is sent.
 *
 * @param sentSize  set to the bytes of data that were sent; may be NULL
 *
 * @return SA_AIS_OK; SA_AIS_ERR_INVALID_PARAM, SA_AIS_ERR_NOT_EXIST, SA_AIS_ERR_ACCESS and SA_AIS_ERR_NO_SPACE as
 *         there.
 */
SaAisErrorT safCkptSectionOverwriteDifferential(
    SaCkptCheckpointHandleT checkpointHandle, const SaCkptSectionIdT *sectionId, const void *dataBuffer,
    SaSizeT dataSize, SaSizeT *sentSize);

#ifdef __cplusplus
}
#endif

#endif
