# PgTide::RowLoad
#		Load on replicated tables in every region of a mesh, each region writing rows of its own.
#
# Owns: pgbench's tables and one table of difficult rows ("items"), their classes, the pgbench processes.
# Does not own: links, faults.  One writer per row: region i has branch i with its tellers and accounts,
# and items whose number is i modulo 4.
package PgTide::RowLoad;

use strict;
use warnings;

use IPC::Run ();
use JSON::PP ();
use PgTide::Process;
use PgTide::Test qw(wait_until);

our @TABLES = qw(pgbench_branches pgbench_tellers pgbench_accounts pgbench_history items ledger);

my $TPCB = <<'END';
\set aid random(1, 10000) + (:me - 1) * 100000
\set tid random(1, 10) + (:me - 1) * 10
\set delta random(-5000, 5000)
BEGIN;
UPDATE pgbench_accounts SET abalance = abalance + :delta WHERE aid = :aid;
SELECT abalance FROM pgbench_accounts WHERE aid = :aid;
UPDATE pgbench_tellers SET tbalance = tbalance + :delta WHERE tid = :tid;
UPDATE pgbench_branches SET bbalance = bbalance + :delta WHERE bid = :me;
INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES (:tid, :me, :aid, :delta, CURRENT_TIMESTAMP);
END;
END

my $ITEMS = <<'END';
\set r random(1, 1000)
SELECT items_step(:me, :r / 1000.0);
END

# Everything but plain updates: large values that stay unchanged, keys that change, rows that move between
# partitions, subtransactions that are taken back.
my $STEP = <<'END';
CREATE SEQUENCE items_n;
CREATE FUNCTION items_step(me int, r float8) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	one bigint;
	two bigint;
BEGIN
	SELECT i.id INTO one FROM items i WHERE i.owner = me AND i.id >= floor(random() * nextval('items_n')) * 4
		ORDER BY i.id LIMIT 1 FOR UPDATE SKIP LOCKED;
	IF one IS NULL OR r < 0.35 THEN
		INSERT INTO items (id, owner, n, small, large)
			VALUES (nextval('items_n') * 4 + me, me, 0, 'small',
				(SELECT string_agg(md5(random()::text), '') FROM generate_series(1, (random() * 200)::int)));
		INSERT INTO ledger (id, day, v) VALUES (nextval('items_n') * 4 + me, date '2026-01-01' + (random() * 300)::int, 1);
	ELSIF r < 0.6 THEN
		UPDATE items SET n = n + 1 WHERE id = one;
		UPDATE ledger SET day = day + 45, v = v + 1 WHERE id = (
			SELECT l.id FROM ledger l WHERE l.id % 4 = me AND l.day < '2027-01-01' LIMIT 1 FOR UPDATE SKIP LOCKED);
	ELSIF r < 0.7 THEN
		UPDATE items SET id = nextval('items_n') * 4 + me WHERE id = one;
	ELSIF r < 0.8 THEN
		DELETE FROM items WHERE id = one;
	ELSIF r < 0.9 THEN
		BEGIN
			UPDATE items SET n = -1, small = 'in vain', large = NULL WHERE id = one;
			INSERT INTO items (id, owner) VALUES (nextval('items_n') * 4 + me, me);
			RAISE EXCEPTION 'back' USING ERRCODE = 'TL001';
		EXCEPTION WHEN SQLSTATE 'TL001' THEN
			UPDATE items SET small = 'after a savepoint' WHERE id = one;
		END;
	ELSE
		-- Two rows change keys with each other.
		SELECT i.id INTO two FROM items i WHERE i.owner = me AND i.id > one ORDER BY i.id LIMIT 1 FOR UPDATE SKIP LOCKED;
		IF two IS NOT NULL THEN
			UPDATE items SET id = -me WHERE id = one;
			UPDATE items SET id = one WHERE id = two;
			UPDATE items SET id = two WHERE id = -me;
		END IF;
	END IF;
END;
$$;
END

# Partitioned differently in every region.
my %LEDGER = (
	us => <<'END',
CREATE TABLE ledger (id bigint, day date, v int, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
CREATE TABLE ledger_1 PARTITION OF ledger FOR VALUES FROM (MINVALUE) TO ('2026-06-01');
CREATE TABLE ledger_2 PARTITION OF ledger FOR VALUES FROM ('2026-06-01') TO (MAXVALUE);
END
	eu => <<'END',
CREATE TABLE ledger (v int, id bigint, day date, PRIMARY KEY (id, day)) PARTITION BY HASH (id);
CREATE TABLE ledger_1 PARTITION OF ledger FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE ledger_2 PARTITION OF ledger FOR VALUES WITH (MODULUS 2, REMAINDER 1);
END
	ap => 'CREATE TABLE ledger (id bigint, day date, v int, PRIMARY KEY (id, day));');

# mesh; clients (of each kind in a region, 1), rate (transactions a second of each kind, 0: as fast as it goes).
# Makes the tables, fills them at the first side, adds them everywhere.
sub new
{
	my ($class, %args) = @_;
	my $self = bless { clients => 1, rate => 0, running => {}, %args }, $class;
	my $mesh = $self->{mesh};
	my $scale = $mesh->sides;
	for my $side ($mesh->sides)
	{
		my $node = $mesh->node($side);
		my @init = ('pgbench', '-q', '-i', '-s', $scale, '-h', $node->host, '-p', $node->port, '-U', $ENV{USER} // 'tide');
		_quietly(@init, '-I', $side eq ($mesh->sides)[0] ? 'dtgp' : 'dtp', 'postgres');
		$mesh->sql($side, <<~'END' . $LEDGER{$side} . $STEP);
			CREATE TABLE items (id bigint PRIMARY KEY, owner int NOT NULL, n int, small text, large text);
			ALTER TABLE items ALTER large SET STORAGE EXTERNAL;
			CREATE INDEX ON items (owner, id);
			END
	}
	$mesh->class('load');
	$mesh->add_table($_, 'load', $_ eq 'pgbench_history' ? { insert_only => JSON::PP::true() } : {}) for @TABLES;
	_write("$ENV{TIDE_DATA}/tpcb.sql", $TPCB);
	_write("$ENV{TIDE_DATA}/items.sql", $ITEMS);
	return $self;
}

sub _quietly
{
	my (@command) = @_;
	my ($out, $err);
	IPC::Run::run(\@command, '<', \undef, '>', \$out, '2>', \$err) or die "@command: $err";
	return;
}

sub _write
{
	my ($path, $text) = @_;
	open my $out, '>', $path or die "$path: $!";
	print $out $text;
	close $out;
	return;
}

sub _number
{
	my ($self, $side) = @_;
	my ($n) = grep { ($self->{mesh}->sides)[ $_ - 1 ] eq $side } 1 .. $self->{mesh}->sides;
	return $n;
}

sub _start_one
{
	my ($self, $side, $kind) = @_;
	my $node = $self->{mesh}->node($side);
	$self->{running}{"$side-$kind"} = PgTide::Process->new(
		name    => "pgbench-$side-$kind",
		log     => "$ENV{TIDE_DATA}/pgbench-$side-$kind.log",
		command => [
			'pgbench', '-n', '-c', $self->{clients}, '-T', 3600, '-f', "$ENV{TIDE_DATA}/$kind.sql", '-D',
			'me=' . $self->_number($side), '-h', $node->host, '-p', $node->port,
			$self->{rate} ? ('-R', $self->{rate}) : (), 'postgres'
		],
		env => { PGAPPNAME => 'load' })->start;
	return;
}

sub start
{
	my ($self) = @_;
	for my $side ($self->{mesh}->sides)
	{
		$self->_start_one($side, $_) for qw(tpcb items);
	}
	return $self;
}

# Starts again what lost its server.
sub tend
{
	my ($self) = @_;
	for my $name (keys %{ $self->{running} })
	{
		$self->_start_one(split /-/, $name) unless $self->{running}{$name}->alive;
	}
	return;
}

# Ends the writers, and waits until none of their transactions is on its way.
sub stop
{
	my ($self) = @_;
	$_->kill9 for values %{ $self->{running} };
	$self->{running} = {};
	my $mesh = $self->{mesh};
	for my $side ($mesh->sides)
	{
		$mesh->sql($side, q{SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE application_name = 'load'});
		defined $mesh->wait_value($side, q{SELECT count(*) FROM pg_stat_activity WHERE application_name = 'load'}, 0, 30)
		  or die "writers of $side don't end\n";
	}
	return;
}

# Transactions of the load that are committed at a side, by whomever: what grows while rows flow.
sub count
{
	my ($self, $side, $by) = @_;
	my $me = $self->_number($by // $side);
	return $self->{mesh}->sql($side, "SELECT count(*) FROM pgbench_history WHERE bid = $me");
}

# Waits until so many more transactions of one region are in another.  Seconds, or undef.
sub wait_arrivals
{
	my ($self, $from, $to, $more, $limit) = @_;
	my $wanted = $self->count($to, $from) + $more;
	return wait_until(sub { $self->tend; $self->count($to, $from) >= $wanted }, $limit // 60,
		"$more more transactions of $from at $to");
}

1;
