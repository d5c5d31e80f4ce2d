# PgTide::Test
#		What every whole-system test needs: waiting for conditions, and the one check that counts.
#
# Owns: wait_until, and exactly_once: everything committed in one region is in
# the other region's inbox once, in order per key, and nothing else is.
package PgTide::Test;

use strict;
use warnings;

use Exporter 'import';
use Test::More;
use Time::HiRes qw(sleep time);

our @EXPORT_OK = qw(wait_until settle publish_sql make_source source_rows exactly_once);

# Newer NATS servers take up to 40 s to resume a source after a cut.
our $HEAL_LIMIT = 120;

# Calls the condition until it is true.  Returns the seconds it took, or undef
# (and says what did not happen) when the limit has passed.
sub wait_until
{
	my ($condition, $limit, $what) = @_;
	my $start = time;
	my $pause = 0.01;
	while (1)
	{
		return time - $start if $condition->();
		last if time - $start > $limit;
		sleep $pause;
		$pause = $pause * 1.5 < 0.25 ? $pause * 1.5 : 0.25;
	}
	diag("waited $limit s in vain: $what");
	return;
}

# A table that records, in the publisher's own transaction, what it published: the truth to compare with.
sub make_source
{
	my ($node) = @_;
	$node->safe_psql('postgres', <<~'END');
		CREATE TABLE IF NOT EXISTS published (
			event_id text PRIMARY KEY, outbox text NOT NULL, key text,
			n bigint GENERATED ALWAYS AS IDENTITY);
		END
	return;
}

# SQL that publishes one event and records it.  Wrap it in BEGIN/ROLLBACK for an aborted one.
sub publish_sql
{
	my ($outbox, $key, $payload) = @_;
	return
	  "INSERT INTO published (event_id, outbox, key) VALUES (tide.outbox_publish('$outbox', 'orders', "
	  . "'$payload'::jsonb, '{}'::jsonb, '$key'), '$outbox', '$key');\n";
}

# [[event_id, key], ...] in order of publishing.
sub source_rows
{
	my ($node, $outbox) = @_;
	my $rows = $node->safe_psql('postgres',
		"SELECT event_id, key FROM published WHERE outbox = '$outbox' ORDER BY n");
	return [ map { [ split /\|/ ] } split /\n/, $rows ];
}

# Waits until the inbox has every committed event.  Returns seconds or undef.
sub settle
{
	my ($source, $outbox, $dest, $inbox, $limit) = @_;
	my $wanted = @{ source_rows($source, $outbox) };
	my $have = 0;
	return wait_until(
		sub {
			$have = $dest->safe_psql('postgres', "SELECT count(*) FROM tide.\"${inbox}_inbox\"");
			return $have >= $wanted;
		},
		$limit // $HEAL_LIMIT,
		"$wanted events of $outbox in inbox $inbox of " . $dest->name)
	  // do { diag("it has $have"); undef };
}

sub _per_key
{
	my ($rows) = @_;
	my %per_key;
	push @{ $per_key{ $_->[1] // '' } }, $_->[0] for @$rows;
	return \%per_key;
}

# One test result: $dest's inbox holds exactly what $source committed to $outbox.
sub exactly_once
{
	my ($source, $outbox, $dest, $inbox, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	my $wanted = source_rows($source, $outbox);
	my $got = [ map { [ split /\|/ ] } split /\n/,
		$dest->safe_psql('postgres', "SELECT event_id, key FROM tide.\"${inbox}_inbox\" ORDER BY seq") ];

	my %wanted = map { $_->[0] => 1 } @$wanted;
	my %got;
	$got{ $_->[0] }++ for @$got;
	my @missing = grep { !$got{$_} } keys %wanted;
	my @extra = grep { !$wanted{$_} } keys %got;
	my @double = grep { $got{$_} > 1 } keys %got;
	my @disorder;
	my ($before, $after) = (_per_key($wanted), _per_key([ grep { $wanted{ $_->[0] } } @$got ]));
	for my $key (keys %$before)
	{
		next if @missing;
		push @disorder, $key if "@{ $before->{$key} }" ne "@{ $after->{$key} // [] }";
	}
	my $ok = !@missing && !@extra && !@double && !@disorder;
	ok($ok, $name // "exactly once: $outbox to inbox $inbox (" . scalar(@$wanted) . " events)");
	diag(sprintf "committed %d, arrived %d: missing %d, never committed %d, twice %d, keys out of order %d",
		scalar @$wanted, scalar @$got, scalar @missing, scalar @extra, scalar @double, scalar @disorder)
	  unless $ok;
	return $ok;
}

1;
