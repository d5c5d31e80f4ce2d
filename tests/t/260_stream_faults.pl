# What somebody can do to streams and consumers while both regions publish: delete, and purge.

use strict;
use warnings;

use Test::More;

use PgTide::Faults;
use PgTide::Test qw(wait_until);
use PgTide::Wan;

plan skip_all => PgTide::Wan->why_not if PgTide::Wan->why_not;

my $pair = PgTide::Faults->new(load => { pause => 0.02 });
my $STREAM = $PgTide::Faults::STREAM;

sub flows_again
{
	my ($when) = @_;
	my @stuck = grep { !defined $pair->wait_arrivals($_, 50, $PgTide::Test::HEAL_LIMIT) } qw(us eu);
	is("@stuck", '', "$when: events flow both ways");
	return;
}

# Events that one region's stream has accepted and nobody else has seen.
sub queue_up
{
	my ($side) = @_;
	$pair->wan->cut_cleanly;    # nothing stays in the kernel's buffers
	my $before = $pair->nats($side)->stream_messages($STREAM);
	defined wait_until(
		sub { $pair->tend_load; ($pair->nats($side)->stream_messages($STREAM) // 0) > $before + 100 },
		60, "$side queues")
	  or die "$side does not queue";
	return;
}

sub test_consumer_deleted
{
	for my $side (qw(us eu))
	{
		$pair->nats($side)->ctl('consumer-delete', $STREAM, "$side-reader");
		flows_again("the consumer of $side was deleted");
	}
	$pair->stop_load;
	$pair->verdict('consumers deleted');
	return;
}

# Loses each region's stream in turn, with events in it that it has accepted and nobody has seen.
sub lose_unseen
{
	my ($how, $lose) = @_;
	for my $side (qw(us eu))
	{
		queue_up($side);
		$lose->($pair->nats($side));
		$pair->load($_)->wait_for(50) for qw(us eu);
		$pair->wan->heal_cleanly;
		flows_again("the stream of $side was $how with events that nobody had seen");
	}
	$pair->stop_load;
	return;
}

sub test_stream_deleted
{
	my $delete = sub { $_[0]->ctl('stream-delete', $STREAM) };
	for my $side (qw(us eu))
	{
		$delete->($pair->nats($side));
		flows_again("the stream of $side was deleted");
	}
	lose_unseen('deleted', $delete);
	$pair->verdict('streams deleted');
	return;
}

# A purge leaves no trace for a publisher: what it took is found missing later and sent again behind
# what came after.  That is all that can be had, and it must be had.
sub test_stream_purged
{
	lose_unseen('purged', sub { $_[0]->ctl('stream-purge', $STREAM) });
	$pair->verdict_without_order('streams purged');
	return;
}

$pair->start_relays;
$pair->start_load;
flows_again('the start');
test_consumer_deleted();
$pair->start_load;
test_stream_deleted();
$pair->start_load;
test_stream_purged();
is_deeply($pair->stop, { us => 0, eu => 0 }, 'both relays end with status 0');
done_testing();
