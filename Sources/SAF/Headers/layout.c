/*
 * The sizes and offsets of the specification's structures, measured on headers in use: programs built against those
 * must run with our libraries. Checked by every build.
 */
#include "safCkpt.h"
#include "safCkptLibrary.h"

#define SIZE(type, size) _Static_assert(sizeof(type) == (size), "size of " #type)
#define AT(type, member, offset) _Static_assert(offsetof(type, member) == (offset), #member " of " #type)

SIZE(SaBoolT, 4);
SIZE(SaAisErrorT, 4);
SIZE(SaDispatchFlagsT, 4);
SIZE(SaSizeT, 8);
SIZE(SaOffsetT, 8);
SIZE(SaInvocationT, 8);
SIZE(SaSelectionObjectT, 8);
SIZE(SaTimeT, 8);
SIZE(SaVersionT, 3);
_Static_assert(_Alignof(SaVersionT) == 1, "alignment of SaVersionT");
SIZE(SaNameT, 258);
_Static_assert(_Alignof(SaNameT) == 2, "alignment of SaNameT");
AT(SaNameT, value, 2);
SIZE(SaAnyT, 16);
SIZE(SaLimitValueT, 8);

SIZE(SaCkptHandleT, 8);
SIZE(SaCkptCheckpointHandleT, 8);
SIZE(SaCkptSectionIterationHandleT, 8);
SIZE(SaCkptCheckpointCreationAttributesT, 48);
AT(SaCkptCheckpointCreationAttributesT, checkpointSize, 8);
AT(SaCkptCheckpointCreationAttributesT, retentionDuration, 16);
AT(SaCkptCheckpointCreationAttributesT, maxSections, 24);
AT(SaCkptCheckpointCreationAttributesT, maxSectionSize, 32);
AT(SaCkptCheckpointCreationAttributesT, maxSectionIdSize, 40);
SIZE(SaCkptSectionIdT, 16);
AT(SaCkptSectionIdT, id, 8);
SIZE(SaCkptSectionCreationAttributesT, 16);
SIZE(SaCkptIOVectorElementT, 48);
AT(SaCkptIOVectorElementT, dataBuffer, 16);
AT(SaCkptIOVectorElementT, dataSize, 24);
AT(SaCkptIOVectorElementT, dataOffset, 32);
AT(SaCkptIOVectorElementT, readSize, 40);
SIZE(SaCkptCheckpointDescriptorT, 64);
AT(SaCkptCheckpointDescriptorT, numberOfSections, 48);
AT(SaCkptCheckpointDescriptorT, memoryUsed, 56);
SIZE(SaCkptSectionDescriptorT, 48);
AT(SaCkptSectionDescriptorT, expirationTime, 16);
AT(SaCkptSectionDescriptorT, sectionSize, 24);
AT(SaCkptSectionDescriptorT, sectionState, 32);
AT(SaCkptSectionDescriptorT, lastUpdate, 40);
SIZE(SaCkptCallbacksT, 16);
SIZE(SaCkptCallbacksT_2, 24);

/* Ours: what programs are built against must not change either. */
SIZE(SafCkptChangeT, 56);
SIZE(SafCkptEventT, 32);
SIZE(SafCkptReplicaT, 12);
SIZE(SafCkptSectionT, 56);
SIZE(SafCkptLibraryKeyT, 16);
SIZE(SafCkptLibraryBytesT, 16);
SIZE(SafCkptLibrarySerialiserT, 24);
SIZE(SafCkptLibraryChangeT, 32);
